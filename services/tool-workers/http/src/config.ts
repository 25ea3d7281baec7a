/** Longest body that becomes a result, in bytes: as base64 it stays below what the router lets through where there is a blob store. */
export const bodyBytesMax: number = 4 * 1024 * 1024
/** Of an answer that says what is wrong, so much goes to the model. */
export const errorBodyBytesMax: number = 16 * 1024
/** Characters of a URL with its arguments: servers take as much in their whole head. */
export const urlLengthMax = 16_000
/** Redirects of one call, all within one origin. */
export const redirectsMax = 3
/** A server that asks for more patience than this is not asked again; the model is told how long it said. */
export const retryAfterMsMax: number = 5 * 60_000
/** The wait before a second attempt where the server names none; doubles with each attempt. */
export const retryMs = 500
/** A connection that nobody has used for so long is closed. */
export const idleMs = 15_000
/** Calls at the same time in one process. */
export const concurrency = 256
