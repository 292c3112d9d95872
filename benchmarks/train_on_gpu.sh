#!/usr/bin/env bash
# Train a recipe and score it in every hospital left out, side by side on one GPU, and pack what is to be kept.
#
#   export SONOSEEK_DATA=/data SONOSEEK_WEIGHTS=/weights
#   benchmarks/train_on_gpu.sh [RECIPE.toml] [FOLDER]         # recipes/b4.toml into runs/gpu by default
#
# Rounds of the protocol and the run on all archives share the GPU. It ends after LIMIT seconds (570) whatever is done;
# the same command goes on from there. FOLDER/pack holds results, figures, curves and weights in parts of at most 15 MB:
#   cat pack/kept.tgz.* | tar xz
# Without a GPU the same recipe is trained on the processor, in hours: LIMIT=100000 benchmarks/train_on_gpu.sh
#
# Variables: PYTHON (python), SEEDS (0), LIMIT (570), PRECISION (bf16 on a GPU, else 32), SHIP (1: also train on all
# archives), PROTOCOL (leave-one-hospital-out).
set -uo pipefail
recipe=${1:-recipes/b4.toml}
folder=${2:-runs/gpu}
python=${PYTHON:-python}
protocol=${PROTOCOL:-leave-one-hospital-out}
gpu=$("$python" -c 'import torch; print(int(torch.cuda.is_available()))') || exit 1
precision=${PRECISION:-$([ "$gpu" = 1 ] && echo bf16 || echo 32)}
limit=${LIMIT:-570}
if [ ! -f "$recipe" ]; then
  echo "no recipe at $recipe; name a .toml file, such as recipes/b4.toml." >&2
  exit 1
fi
mkdir -p "$folder/pack"

timeout "$limit" "$python" -m sonoseek evaluate --protocol "$protocol" --system "$recipe" --seeds "${SEEDS:-0}" \
  --precision "$precision" --runs "$folder/rounds" --out "$folder/results" --no-figures \
  >"$folder/evaluate.log" 2>&1 &
evaluated=$!
trained=
if [ "${SHIP:-1}" = 1 ]; then
  timeout "$limit" "$python" -m sonoseek train "$recipe" --run "$folder/run" --resume --precision "$precision" \
    --no-tensorboard --checkpoint-minutes 2 >"$folder/train.log" 2>&1 &
  trained=$!
fi
status=0
wait "$evaluated" || status=$?
if [ -n "$trained" ]; then
  wait "$trained" || status=$?
fi

# What is small and says everything; of weights those of the run on all archives (a round's stay in FOLDER/rounds).
rm -f "$folder"/pack/kept.tgz.*
(
  cd "$folder" && find . \( -path ./pack -o -path '*/prepared' -o -path '*/checkpoints' \) -prune -o -type f \
    \( -name '*.csv' -o -name '*.csv.bz2' -o -name '*.json' -o -name '*.log' -o -name '*.md' -o -path './run/network.safetensors' \) -print |
    tar czf - -T -
) | split -b 15000000 - "$folder/pack/kept.tgz."
tail -n 40 "$folder/evaluate.log"
[ -f "$folder/train.log" ] && tail -n 3 "$folder/train.log"
ls -l "$folder/pack"
if [ "$status" = 124 ]; then
  echo "stopped after $limit s; the same command goes on." >&2
fi
exit "$status"
