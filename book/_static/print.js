// Paper is white: a page that is read in the dark is printed in the light, and goes back.
addEventListener("beforeprint", () => {
  const root = document.documentElement;
  root.dataset.shown = root.dataset.theme;
  root.dataset.theme = "light";
});
addEventListener("afterprint", () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.shown;
});
