/** The `error.type` words of the API. */
export type ErrorType =
  | "invalid_request_error"
  | "authentication_error"
  | "permission_error"
  | "not_found_error"
  | "conflict_error"
  | "request_too_large"
  | "rate_limit_error"
  | "timeout_error"
  | "api_error"
  | "overloaded_error"

/** An error as its client is to see it. */
export class ApiError extends Error {
  readonly status: number
  readonly type: ErrorType
  readonly details: Readonly<Record<string, unknown>> | undefined
  readonly headers: Readonly<Record<string, string>> | undefined

  constructor(
    status: number,
    type: ErrorType,
    message: string,
    more: { readonly details?: Readonly<Record<string, unknown>>; readonly headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(message)
    this.status = status
    this.type = type
    this.details = more.details
    this.headers = more.headers
  }
}

/** 400: what is wrong, with a pointer to it, and what to do. */
export function invalid(message: string, details?: Readonly<Record<string, unknown>>): ApiError {
  return new ApiError(400, "invalid_request_error", message, details === undefined ? {} : { details })
}

/** 404: also for what belongs to another tenant. */
export function notFound(what: string): ApiError {
  return new ApiError(404, "not_found_error", `${what} not found`)
}

/** 409 that must surface at once: the SDK would try it again. */
export function conflict(message: string, details?: Readonly<Record<string, unknown>>): ApiError {
  return new ApiError(409, "invalid_request_error", message, {
    headers: { "x-should-retry": "false" },
    ...(details === undefined ? {} : { details }),
  })
}

/** 503: nobody can say how it went, or the log cannot be reached. Never 200. */
export function unavailable(message: string): ApiError {
  return new ApiError(503, "overloaded_error", message, { headers: { "retry-after": "1" } })
}
