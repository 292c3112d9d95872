"""The filter of a search: its grammar (`grammar`), as SQL (`sql`) and as a Milvus expression (`milvus`)."""
