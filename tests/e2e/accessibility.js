// Checks the page that a browser shows now, and returns one sentence for each fault: contrast (WCAG 2.1, level AA),
// headings, landmarks, tables, drawings, ids, language. Closed sections are not checked; the caller opens them first.
(() => {
  const faults = [];
  const TEXT_CONTRAST = 4.5, LARGE_TEXT_CONTRAST = 3, DRAWING_CONTRAST = 3;
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});

  const all = (selector) => [...document.querySelectorAll(selector)];
  const check = (holds, fault) => holds || faults.push(fault);
  const isVisible = (element) =>
    element.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true}) &&
    [...element.getClientRects()].some((box) => box.width > 1 && box.height > 1);

  function describe(element) {
    const text = element.textContent.trim().replace(/\s+/g, " ").slice(0, 40);
    const names = (element.getAttribute("class") || "").trim().replace(/\s+/g, ".");
    return `<${element.tagName.toLowerCase()}${names && "." + names}> "${text}"`;
  }

  // Returns [red, green, blue, alpha] of any CSS colour. The canvas knows all notations.
  function parse(color) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }

  const blend = (over, under) => over.slice(0, 3).map((value, i) => value * over[3] + under[i] * (1 - over[3]));

  function chain(element) {
    const elements = [];
    for (let at = element; at; at = at.parentElement) elements.unshift(at);
    return elements;
  }

  // Returns the colour behind the element, or null if no ancestor has a background.
  function background(element) {
    let color = null;
    for (const at of chain(element)) {
      const style = getComputedStyle(at);
      if (style.backgroundImage !== "none") faults.push(`${describe(at)} has a background image`);
      const own = parse(style.backgroundColor);
      if (own[3] === 1) color = own.slice(0, 3);
      else if (own[3] > 0 && color) color = blend(own, color);
    }
    return color;
  }

  const opacity = (element) => chain(element).reduce((product, at) => product * getComputedStyle(at).opacity, 1);

  function luminance(color) {
    const [red, green, blue] = color.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  function contrast(element, color) {
    const behind = background(element);
    if (!behind) return 0;
    const [red, green, blue, alpha] = parse(color);
    const front = blend([red, green, blue, alpha * opacity(element)], behind);
    const [dark, light] = [luminance(front), luminance(behind)].sort((one, other) => one - other);
    return (light + 0.05) / (dark + 0.05);
  }

  function checkContrast(element, color, needed) {
    const found = contrast(element, color);
    check(found >= needed, `${describe(element)} has a contrast of ${found.toFixed(2)}, less than ${needed}`);
  }

  function checkTexts() {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let count = 0;
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement;
      if (!texts.currentNode.data.trim() || element.closest("script, style, noscript, svg title, svg desc")) continue;
      if (!isVisible(element)) continue;
      const style = getComputedStyle(element), pixels = parseFloat(style.fontSize);
      const isLarge = pixels >= 24 || (pixels >= 18.66 && style.fontWeight >= 700);
      checkContrast(element, element.closest("svg") ? style.fill : style.color,
                    isLarge ? LARGE_TEXT_CONTRAST : TEXT_CONTRAST);
      check(pixels >= 12, `${describe(element)} has a font size of ${pixels} px, less than 12`);
      check(element.closest("main, header, footer, nav"), `${describe(element)} is in no landmark`);
      count++;
    }
    check(count > 0, "the page has no text");
  }

  function checkDrawings() {
    for (const drawing of all("svg, img")) {
      const hidden = drawing.closest("[aria-hidden=true]");
      check(hidden || drawing.tagName === "IMG" || drawing.getAttribute("role") === "img",
            `${describe(drawing)} has not the role img`);
    }
    for (const bar of all("svg rect.recorded, svg rect.repeated, svg rect.rejected"))
      checkContrast(bar, getComputedStyle(bar).fill, DRAWING_CONTRAST);
  }

  function checkHeadings() {
    const levels = all("h1, h2, h3, h4, h5, h6").filter(isVisible).map((heading) => Number(heading.tagName[1]));
    check(levels.filter((level) => level === 1).length === 1, "the page has not exactly one h1");
    check(levels[0] === 1, "the first heading is not h1");
    levels.forEach((level, i) => check(i === 0 || level <= levels[i - 1] + 1, `heading ${i + 1} skips a level`));
  }

  function checkTables() {
    for (const table of all("table").filter(isVisible)) {
      const headers = [...table.querySelectorAll("th")];
      check(headers.length > 0, `${describe(table)} has no header`);
      check(headers.every((header) => ["col", "row", "colgroup", "rowgroup"].includes(header.getAttribute("scope"))),
            `${describe(table)} has a header without a scope`);
      check(headers.every((header) => header.textContent.trim()), `${describe(table)} has an empty header`);
      check(!table.querySelector("td[scope]"), `${describe(table)} has a cell with a scope`);
    }
    for (const list of all("dl"))
      check(list.querySelectorAll("dt").length > 0 && list.querySelectorAll("dd").length > 0,
            `${describe(list)} lacks terms or descriptions`);
  }

  function checkDocument() {
    const ids = all("[id]").map((element) => element.id);
    const viewport = document.querySelector("meta[name=viewport]")?.content || "";

    check(document.documentElement.lang, "the page has no language");
    check(document.title.trim(), "the page has no title");
    check(/width=device-width/.test(viewport) && !/maximum-scale|user-scalable/.test(viewport),
          "the page cannot be scaled");
    check(all("main").length === 1, "the page has not exactly one main element");
    check(new Set(ids).size === ids.length, "an id is used twice");
    for (const element of all("[aria-labelledby], [aria-describedby]")) {
      const names = `${element.getAttribute("aria-labelledby") || ""} ${element.getAttribute("aria-describedby") || ""}`;
      for (const name of names.split(/\s+/).filter(Boolean))
        check(document.getElementById(name)?.textContent.trim(), `${describe(element)} refers to #${name}, which is empty`);
    }
    check(all("[tabindex]").every((element) => element.tabIndex <= 0), "an element has a positive tabindex");
    check(all("time").every((time) => !isNaN(Date.parse(time.dateTime))), "a time has no valid datetime");
  }

  checkTexts();
  checkDrawings();
  checkHeadings();
  checkTables();
  checkDocument();
  return [...new Set(faults)];
})()
