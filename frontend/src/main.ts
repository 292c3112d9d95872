import { mount } from "svelte";
import "./app.css";
import App from "./App.svelte";

const target = document.getElementById("room");
if (!target) throw new Error("index.html has lost its #room");
mount(App, { target });
