/**
 * Why this URL may not be called, or null. Every URL passes here right before it is called, redirects included: the one place where
 * it is decided what this worker may reach.
 */
export function urlFault(url: URL): string | null {
  if (url.protocol !== "http:" && url.protocol !== "https:") return `only http and https are called, not ${url.protocol}`
  if (url.username !== "" || url.password !== "") return "a URL holds no user and no password; use a header"
  return null
}
