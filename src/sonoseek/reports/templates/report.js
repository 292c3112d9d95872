"use strict";
(() => {
  const main = document.getElementById("main");
  const slider = document.getElementById("opacity");
  const shown = document.getElementById("opacity-value");
  const apply = () => {
    main.style.setProperty("--opacity", String(slider.valueAsNumber / 100));
    shown.textContent = slider.value + " %";
  };
  slider.addEventListener("input", apply);
  apply();
  addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details")) each.open = true;
  });

  const which = document.getElementById("which");
  if (!which) return;
  const parts = [...document.querySelectorAll("[data-evidence]")];
  const cards = [...document.querySelectorAll("[data-show]")];
  const back = document.getElementById("back");
  const show = (number, { write = true } = {}) => {
    which.value = number;
    for (const part of parts) part.toggleAttribute("hidden", part.dataset.evidence !== number);
    const card = cards.find((each) => each.dataset.show === number);
    for (const each of cards) each.setAttribute("aria-pressed", String(each === card));
    main.classList.toggle("pair", card !== undefined);
    if (write) history.replaceState(null, "", card ? "#match-" + card.dataset.rank : "#");
    return card;
  };
  which.addEventListener("change", () => show(which.value));
  for (const card of cards) {
    card.addEventListener("click", () => {
      if (card.getAttribute("aria-pressed") === "true") return show("0");
      show(card.dataset.show);
      main.scrollIntoView({ block: "start" });
    });
    card.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const next = step && cards[cards.indexOf(card) + step];
      if (!next) return;
      event.preventDefault();
      const open = main.classList.contains("pair");
      next.focus({ preventScroll: open }); // the cards lie below the pair: it must stay in sight
      if (open) show(next.dataset.show);
    });
  }
  back.addEventListener("click", () => {
    const open = cards.find((each) => each.getAttribute("aria-pressed") === "true");
    show("0");
    (open ?? which).focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && main.classList.contains("pair")) back.click();
  });
  const follow = () => {
    const opened = /^#match-(\d+)$/.exec(location.hash);
    const linked = opened && cards.find((each) => each.dataset.rank === opened[1]);
    if (linked) show(linked.dataset.show, { write: false });
  };
  addEventListener("hashchange", follow);
  follow();
})();
