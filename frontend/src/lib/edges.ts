/** Mark where an element that scrolls sideways is cut, for the style: `data-cut` is "left", "right", both or empty. */
export function edges(element: HTMLElement): () => void {
  const mark = () => {
    const { scrollLeft, clientWidth, scrollWidth } = element;
    const cut = [scrollLeft > 1 ? "left" : "", scrollLeft + clientWidth < scrollWidth - 1 ? "right" : ""];
    element.dataset.cut = cut.filter(Boolean).join(" ");
  };
  const sizes = new ResizeObserver(mark);
  sizes.observe(element);
  element.addEventListener("scroll", mark, { passive: true });
  mark();
  return () => {
    sizes.disconnect();
    element.removeEventListener("scroll", mark);
  };
}
