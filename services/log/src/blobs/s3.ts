import { AwsClient } from "aws4fetch"
import {
  BlobDamagedError,
  BlobMissingError,
  type Blobs,
  BlobsUnavailableError,
  folderOf,
  isFolder,
  isSha256,
  type StoredBlob,
  sha256Of,
} from "./blobs.ts"

/** A bucket and how to reach it. */
export interface S3Bucket {
  readonly bucket: string
  /** Without a slash at either end; may be empty. */
  readonly prefix: string
  readonly region: string
  /** Null: Amazon's own. */
  readonly endpoint: string | null
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken: string | null
}

export interface S3Options extends S3Bucket {
  /** How long one request may take. */
  readonly timeoutMs?: number
  /** How long a collector may take between its last look at a blob and the end of its removal; who puts an old one again waits as long. */
  readonly settleMs?: number
}

/** A blob that may be collected is older than this, whatever grace a collector is given. */
const collectableFromMs = 60_000

interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: Uint8Array
}

/**
 * Blobs in a bucket: `<prefix>/<folder of the session>/<sha256>`, on anything that speaks S3. Its requests are the plainest there are, signed,
 * with the SHA-256 of what is put, so that the store refuses what was damaged on its way.
 *
 * S4 holds without conditional requests, which not every store has: a collector removes a blob within `settleMs` of having seen that it is
 * old, or not at all; who puts an old blob again looks, after as long, whether it still stands.
 */
export class S3Blobs implements Blobs {
  readonly place: string
  readonly #client: AwsClient
  readonly #url: string
  readonly #prefix: string
  readonly #timeoutMs: number
  readonly #settleMs: number

  constructor({
    bucket,
    prefix,
    region,
    endpoint,
    accessKeyId,
    secretAccessKey,
    sessionToken,
    timeoutMs = 60_000,
    settleMs = 3000,
  }: S3Options) {
    this.#client = new AwsClient({
      accessKeyId,
      secretAccessKey,
      ...(sessionToken === null ? {} : { sessionToken }),
      region,
      service: "s3",
      // Whoever asks knows better how long to go on.
      retries: 0,
    })
    this.#url = `${(endpoint ?? `https://s3.${region}.amazonaws.com`).replace(/\/$/, "")}/${bucket}`
    this.#prefix = prefix === "" ? "" : `${prefix}/`
    this.#timeoutMs = timeoutMs
    this.#settleMs = settleMs
    this.place = `s3://${bucket}/${prefix}`
  }

  async put(sessionId: string, bytes: Uint8Array): Promise<string> {
    const sha256 = sha256Of(bytes)
    const key = this.#key(folderOf(sessionId), sha256)
    const wasOld = ((await this.#ageOf(key)) ?? 0) > collectableFromMs
    await this.#put(key, sha256, bytes)
    if (wasOld) {
      await new Promise((resolve) => setTimeout(resolve, this.#settleMs))
      if ((await this.#ageOf(key)) === null) await this.#put(key, sha256, bytes)
    }
    return sha256
  }

  async #put(key: string, sha256: string, bytes: Uint8Array): Promise<void> {
    const headers = { "x-amz-content-sha256": sha256, "content-type": "application/json", "content-length": String(bytes.length) }
    const { status, body } = await this.#ask("PUT", key, { headers, body: bytes })
    if (status !== 200) throw this.#unavailable(`does not take a blob of ${bytes.length} bytes`, status, body)
  }

  async get(sessionId: string, sha256: string): Promise<Uint8Array> {
    if (!isSha256(sha256)) throw new BlobMissingError(`${JSON.stringify(sha256)} is no SHA-256.`)
    const key = this.#key(folderOf(sessionId), sha256)
    const { status, body } = await this.#ask("GET", key)
    const where = `${this.place}/${folderOf(sessionId)}/${sha256}`
    // Without the right to list, Amazon's store answers 403 for what is missing: that is no answer.
    if (status === 404 && codeOf(body) !== "NoSuchBucket") throw new BlobMissingError(`There is no ${where}.`)
    if (status !== 200) throw this.#unavailable(`does not give ${where}`, status, body)
    if (sha256Of(body) !== sha256) throw new BlobDamagedError(`The ${body.length} bytes of ${where} have another SHA-256 than its name.`)
    return body
  }

  list(): AsyncIterable<StoredBlob> {
    return this.#list("")
  }

  async *#list(folder: string): AsyncGenerator<StoredBlob> {
    for (let token: string | undefined; ; ) {
      const query = new URLSearchParams({ "list-type": "2", prefix: `${this.#prefix}${folder}` })
      if (token !== undefined) query.set("continuation-token", token)
      // Signed as it is sent, in which a blank is no plus.
      const { status, body, headers } = await this.#ask("GET", `?${query.toString().replaceAll("+", "%20")}`)
      if (status !== 200) throw this.#unavailable("cannot be listed", status, body)
      const text = Buffer.from(body).toString("utf8")
      const now = dateOf(headers)
      for (const [, one = ""] of text.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
        const [inFolder = "", name = ""] = (elementOf(one, "Key") ?? "").split("/").slice(-2)
        if (!isFolder(inFolder) || !isSha256(name)) continue
        const bytes = Number(elementOf(one, "Size") ?? 0)
        yield { folder: inFolder, name, bytes, ageMs: now - Date.parse(elementOf(one, "LastModified") ?? "") }
      }
      token = elementOf(text, "IsTruncated") === "true" ? unescaped(elementOf(text, "NextContinuationToken") ?? "") : undefined
      if (token === undefined || token === "") return
    }
  }

  async collect({ folder, name }: StoredBlob, olderThanMs: number): Promise<boolean> {
    if (!isFolder(folder) || !isSha256(name)) return false
    const key = this.#key(folder, name)
    const until = performance.now() + this.#settleMs / 2
    const ageMs = await this.#ageOf(key)
    if (ageMs === null || ageMs <= Math.max(olderThanMs, collectableFromMs)) return false
    const leftMs = Math.floor(until - performance.now())
    if (leftMs <= 0) return false
    await this.#delete(key, leftMs)
    return true
  }

  async removeSession(sessionId: string): Promise<void> {
    const folder = folderOf(sessionId)
    const keys: string[] = []
    for await (const { name } of this.#list(`${folder}/`)) keys.push(this.#key(folder, name))
    // One by one: it is in no hurry, and not every store bears deletions side by side.
    for (const key of keys) await this.#delete(key, this.#timeoutMs)
  }

  async #delete(key: string, timeoutMs: number): Promise<void> {
    const { status, body } = await this.#ask("DELETE", key, {}, timeoutMs)
    if (status !== 204 && status !== 200 && status !== 404) throw this.#unavailable("does not remove a blob", status, body)
  }

  /** Since it was put, by the store's own clock; null where there is none. */
  async #ageOf(key: string): Promise<number | null> {
    const { status, headers, body } = await this.#ask("HEAD", key)
    if (status === 404) return null
    if (status !== 200) throw this.#unavailable("does not tell of a blob", status, body)
    return dateOf(headers) - Date.parse(headers.get("last-modified") ?? "")
  }

  #key(folder: string, sha256: string): string {
    return `/${this.#prefix}${folder}/${sha256}`
  }

  async #ask(
    method: string,
    path: string,
    init: { headers?: Record<string, string>; body?: Uint8Array } = {},
    timeoutMs = this.#timeoutMs,
  ): Promise<Answer> {
    try {
      const signal = AbortSignal.timeout(timeoutMs)
      const response = await this.#client.fetch(`${this.#url}${path}`, { method, ...init, signal })
      return { status: response.status, headers: response.headers, body: new Uint8Array(await response.arrayBuffer()) }
    } catch (error) {
      const { message, cause } = error as Error
      const why = cause instanceof Error ? `${message}: ${cause.message}` : message
      throw new BlobsUnavailableError(
        `The blob store ${this.place} cannot be reached at ${this.#url}: ${why}. Look at REINS_BLOBS and AWS_ENDPOINT_URL_S3.`,
        {
          cause: error,
        },
      )
    }
  }

  #unavailable(what: string, status: number, body: Uint8Array): BlobsUnavailableError {
    const code = codeOf(body)
    const hint = status === 403 ? " It needs GetObject, PutObject, DeleteObject and ListBucket." : ""
    return new BlobsUnavailableError(`The blob store ${this.place} ${what}: it answers ${status}${code === null ? "" : ` ${code}`}.${hint}`)
  }
}

/** The store's clock, which its ages are told by. */
function dateOf(headers: Headers): number {
  const date = Date.parse(headers.get("date") ?? "")
  return Number.isNaN(date) ? Date.now() : date
}

function codeOf(body: Uint8Array): string | null {
  return elementOf(Buffer.from(body.subarray(0, 2000)).toString("utf8"), "Code")
}

/** The text of the first element of this name. What is read so holds no markup: keys of ours, numbers and times. */
function elementOf(xml: string, name: string): string | null {
  return new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1] ?? null
}

function unescaped(text: string): string {
  return text.replace(/&(lt|gt|quot|apos|amp);/g, (_, name: string) => ({ lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" })[name] ?? "")
}
