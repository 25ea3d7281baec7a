import { z } from "zod"

/** The environment of the invoker, typed, once. */
export const environment: z.ZodObject<{
  ANTHROPIC_API_KEY: z.ZodOptional<z.ZodString>
  ANTHROPIC_AUTH_TOKEN: z.ZodOptional<z.ZodString>
  ANTHROPIC_BASE_URL: z.ZodOptional<z.ZodURL>
}> = z.object({
  ANTHROPIC_API_KEY: z.string().min(1).optional(),
  ANTHROPIC_AUTH_TOKEN: z.string().min(1).optional(),
  ANTHROPIC_BASE_URL: z.url().optional(),
})

export interface InvokerLimits {
  /** How long a model call may take: longer than the longest answer, so that only a claimant that hangs meets it. */
  readonly deadlineMs: number
  /** Beyond the deadline, before anyone but the claimant closes the attempt. */
  readonly deadlineMarginMs: number
  /** The model's window in tokens, where the agent does not say. */
  readonly contextTokens: number
  /** The share of the window beyond which a summary is asked for before the next turn. */
  readonly compactAt: number
  /** Failures after which a turn gives up. */
  readonly failuresMax: number
  /** Attempts of any kind (also takeovers) after which a turn gives up: a request that kills its process must not do so for ever. */
  readonly attemptsMax: number
  /** Model calls at the same time in one process. */
  readonly concurrency: number
  /** How long after its first words an answer is first previewed: one that is whole by then costs nothing. */
  readonly previewAfterMs: number
  /** Between two previews of one answer at least: often enough for the eye, seldom enough for the log. */
  readonly previewEveryMs: number
  /** Units of text that wait for a slow log; beyond it the preview ends. Three bytes each still fit into one record. */
  readonly previewUnitsMax: number
}

export const defaultInvokerLimits: InvokerLimits = {
  deadlineMs: 600_000,
  deadlineMarginMs: 5_000,
  contextTokens: 200_000,
  compactAt: 0.8,
  failuresMax: 6,
  attemptsMax: 20,
  concurrency: 512,
  previewAfterMs: 30,
  previewEveryMs: 50,
  previewUnitsMax: 256 * 1024,
}
