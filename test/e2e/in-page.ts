// Functions that a test sends into the page: each stands alone, since only its own text arrives there. What they use of a browser is
// declared here, so that no test can take a browser's globals for Node's.

interface PageElement {
  readonly tagName: string
  readonly className: string
  readonly parentElement: PageElement | null
  readonly childNodes: Iterable<{ readonly nodeType: number; readonly textContent: string | null }>
  closest(selector: string): PageElement | null
  checkVisibility(): boolean
}

declare const document: {
  readonly activeElement: unknown
  readonly documentElement: PageElement & { readonly scrollWidth: number }
  querySelectorAll(selector: string): Iterable<PageElement> & { readonly length: number }
}
declare function getComputedStyle(element: PageElement): { readonly color: string; readonly backgroundColor: string }
declare function addEventListener(
  name: "securitypolicyviolation",
  listener: (event: { readonly violatedDirective: string; readonly blockedURI: string }) => void,
): void

/** Says on the console what the page's policy has stopped. */
export function tellViolations(): void {
  addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))
}

/** Whether anything that was shown has run, and how many elements there are that only markup from outside could have made. */
export function harm(): { readonly pwned: unknown; readonly foreign: number } {
  return {
    pwned: (globalThis as { readonly pwned?: unknown }).pwned ?? null,
    foreign: document.querySelectorAll("img, iframe, object, embed, #console script, #console a[href^='javascript']").length,
  }
}

export function hasFocus(element: unknown): boolean {
  return element === document.activeElement
}

export function ground(): string {
  return getComputedStyle(document.documentElement).backgroundColor
}

export function stored(): readonly [local: readonly string[], session: readonly unknown[]] {
  return [Object.keys(localStorage), Object.values(sessionStorage)]
}

/** How wide it is, and which of its text has less contrast than WCAG AA asks for. */
export function measured(): { readonly wide: number; readonly small: readonly string[] } {
  type Colour = readonly [red: number, green: number, blue: number, alpha: number]
  const parse = (text: string): Colour => {
    const [red = 0, green = 0, blue = 0, alpha = 1] = (text.match(/[\d.]+/g) ?? []).map(Number)
    return [red, green, blue, alpha]
  }
  const luminance = ([red, green, blue]: Colour): number => {
    const linear = (value: number): number => (value <= 10.03 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
  }
  const ground = (element: PageElement | null): Colour => {
    for (let at: PageElement | null = element; at !== null; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor)
      if (colour[3] === 1) return colour
    }
    return [255, 255, 255, 1]
  }
  const textNode = 3
  const small: string[] = []
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].some((node) => node.nodeType === textNode && (node.textContent ?? "").trim() !== "")
    // What cannot be used now may be faint.
    if (!text || element.closest(":disabled") !== null || !element.checkVisibility()) continue
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))]
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    if (contrast < 4.5) small.push(`${element.tagName}.${element.className}: ${contrast.toFixed(2)}`)
  }
  return { wide: document.documentElement.scrollWidth, small }
}
