// Filters and order of the cards. The URL fragment holds the state, so that a view can be shared:
// report.html#verdict=ai&sort=probability
"use strict";
(() => {
  const form = document.getElementById("controls");
  const list = document.getElementById("cards");
  const shown = document.getElementById("shown");
  if (!form) return;

  const plain = (text) => text.normalize("NFC").toLowerCase();
  const cards = Array.from(list.children, (card, place) => ({
    card,
    place,
    name: plain(card.querySelector(".name").textContent),
    verdict: card.dataset.verdict,
    probability: Number(card.dataset.p ?? -1),
    warned: "warned" in card.dataset,
    accepted: "accepted" in card.dataset,
  }));
  const byName = new Intl.Collator(undefined, { numeric: true }).compare;
  const orders = {
    "": (a, b) => a.place - b.place,
    probability: (a, b) => b.probability - a.probability || a.place - b.place,
    name: (a, b) => byName(a.name, b.name) || a.place - b.place,
  };
  let order = "";

  const wanted = () =>
    new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));

  function apply() {
    const want = wanted();
    const verdicts = want.getAll("verdict");
    const accepted = want.get("accepted");
    const text = plain(want.get("q") ?? "");
    const sort = want.get("sort") ?? "";
    if (sort !== order) {
      for (const { card } of [...cards].sort(orders[sort])) list.append(card);
      order = sort;
    }
    let count = 0;
    for (const { card, name, verdict, warned, accepted: is } of cards) {
      const keep =
        (!verdicts.length || verdicts.includes(verdict)) &&
        (!want.has("warnings") || warned) &&
        (!accepted || is === (accepted === "only")) &&
        name.includes(text);
      if (card.hidden === keep) card.hidden = !keep;
      count += keep;
    }
    const number = (value) => value.toLocaleString("en");
    list.hidden = count === 0;
    shown.value = count
      ? `${number(count)} of ${number(cards.length)} shown`
      : "No image fits these filters.";
  }

  function remember() {
    const state = String(wanted());
    try {
      history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
    } catch {
      // Some browsers forbid this for local files. The view still works.
    }
  }

  function recall() {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const field of form.elements) {
      if (field.type === "checkbox") field.checked = state.getAll(field.name).includes(field.value);
      else if (field.type === "search") field.value = state.get(field.name) ?? "";
      else if (field.type === "select-one") {
        field.value = state.get(field.name) ?? "";
        if (field.selectedIndex < 0) field.selectedIndex = 0;
      }
    }
    apply();
  }

  let pause = 0;
  form.addEventListener("input", (event) => {
    clearTimeout(pause);
    pause = setTimeout(() => (apply(), remember()), event.target.type === "search" ? 120 : 0);
  });
  form.addEventListener("reset", () => setTimeout(() => (apply(), remember())));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => {
    // A fragment without "=" is the number of a card.
    if (!location.hash || location.hash.includes("=")) recall();
  });
  form.hidden = false;
  recall();
})();
