// Run in a page: what a reader cannot see, or cannot reach. Returns sentences; none is good.
(language) => {
  const found = [];
  const channels = (text) => {
    const parts = text.match(/[\d.]+/g).map(Number);
    return parts.length === 3 ? [...parts, 1] : parts;
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const luminance = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
  const ground = (element) =>
    element === null ? canvas : over(channels(getComputedStyle(element).backgroundColor), ground(element.parentElement));
  const opacity = (element) =>
    element === null ? 1 : Number(getComputedStyle(element).opacity) * opacity(element.parentElement);
  const named = (element) => `<${element.tagName.toLowerCase()}> "${element.textContent.trim().slice(0, 30)}"`;
  const shown = (element) => element.checkVisibility() && element.getClientRects().length > 0;

  if (document.documentElement.lang !== language) found.push(`lang is ${document.documentElement.lang}`);
  if (!document.querySelector("meta[name=viewport]")) found.push("no viewport");
  if (document.documentElement.scrollWidth > innerWidth) {
    const wide = [...document.querySelectorAll("body *")].filter(
      (element) => element.getBoundingClientRect().right > innerWidth && !element.parentElement.closest(".scroll, pre"));
    found.push(`wider than the window: ${wide.map(named).slice(0, 3)}`);
  }
  const headings = [...document.querySelectorAll("h1")];
  if (headings.length !== 1) found.push(`${headings.length} titles`);
  for (const heading of headings) {
    const twice = [...document.querySelectorAll("p, h2, legend")].filter(
      (element) => element.textContent.trim() === heading.textContent.trim());
    if (twice.length) found.push(`the title stands twice: ${named(heading)}`);
  }
  for (const element of document.querySelectorAll("body *")) {
    const style = getComputedStyle(element);
    const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!shown(element)) continue;
    if (says) {
      const behind = ground(element);
      const colour = channels(style.color);
      colour[3] *= opacity(element);
      const ratio = contrast(over(colour, behind), behind);
      if (ratio < 4.5) found.push(`text at ${ratio.toFixed(2)}: ${named(element)}`);
    }
    if (element.matches("input:not([type=hidden], [type=checkbox], [type=radio]), select, textarea, button")) {
      const outside = ground(element.parentElement);
      const edge = contrast(over(channels(style.borderTopColor), outside), outside);
      if (style.borderTopStyle === "none" || edge < 3) found.push(`edge at ${edge.toFixed(2)}: ${named(element)}`);
      if (element.getBoundingClientRect().height < 24) found.push(`too small to press: ${named(element)}`);
    }
    if (element.matches("input:not([type=hidden])") && element.labels.length === 0) found.push(`no label: ${element.id}`);
    if (style.overflowX === "hidden" && style.clipPath === "none" && element.scrollWidth > element.clientWidth)
      found.push(`cut off: ${named(element)}`);
  }
  return found;
}
