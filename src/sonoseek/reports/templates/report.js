"use strict";
(() => {
  const stage = document.getElementById("stage");
  const slider = document.getElementById("opacity");
  const shown = document.getElementById("opacity-value");
  const apply = () => {
    stage.style.setProperty("--opacity", String(slider.valueAsNumber / 100));
    shown.textContent = slider.value + " %";
  };
  slider.addEventListener("input", apply);
  apply();
  const which = document.getElementById("which");
  if (which) {
    which.addEventListener("change", () => {
      for (const part of document.querySelectorAll("[data-evidence]")) {
        part.hidden = part.dataset.evidence !== which.value;
      }
    });
  }
})();
