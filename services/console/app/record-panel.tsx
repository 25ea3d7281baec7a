import type { JSX } from "preact"
import { useEffect, useRef, useState } from "preact/hooks"
import { getRecord, type Placed, type RawRecord, RefusedError } from "./api.ts"
import { LongText } from "./long-text.tsx"
import { count, layOut, unfolded, visible } from "./visible.ts"

type Form = "readable" | "exact" | "bytes" | "event"

const forms: readonly (readonly [Form, string])[] = [
  ["readable", "Readable"],
  ["exact", "Exact"],
  ["bytes", "Bytes"],
  ["event", "API event"],
]

/** The record behind an event, as it stands in the log. */
export function RecordPanel({
  topic,
  placed,
  close,
}: {
  readonly topic: string
  readonly placed: Placed
  readonly close: () => void
}): JSX.Element {
  const { event, place } = placed
  const [record, setRecord] = useState<RawRecord | null>(null)
  const [problem, setProblem] = useState<string | null>(null)
  const [form, setForm] = useState<Form>("readable")
  const closeButton = useRef<HTMLButtonElement>(null)

  useEffect(() => {
    const before = document.activeElement
    closeButton.current?.focus({ preventScroll: true })
    const pressed = (key: KeyboardEvent): void => {
      if (key.key === "Escape") close()
    }
    addEventListener("keydown", pressed)
    return () => {
      removeEventListener("keydown", pressed)
      // Back to the number that opened it.
      if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true })
    }
  }, [])

  useEffect(() => {
    if (place === null) return undefined
    const abort = new AbortController()
    getRecord(topic, place, abort.signal).then(setRecord, (error: unknown) => {
      if (!abort.signal.aborted) setProblem(error instanceof RefusedError ? error.message : "The gateway cannot be reached.")
    })
    return () => abort.abort()
  }, [topic, place?.partition, place?.offset])

  const said = record?.value?.["type"]
  return (
    <aside class="panel" aria-label="Record">
      <header>
        <div>
          <h2>{typeof said === "string" ? visible(said) : event.type}</h2>
          <p>
            <code>
              {topic} · {place === null ? "queued" : `${place.partition}:${place.offset}`}
            </code>
          </p>
        </div>
        <button class="quiet" type="button" ref={closeButton} onClick={close} aria-label="Close the record">
          Close
        </button>
      </header>
      {problem !== null && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
      {record !== null && (
        <>
          <dl>
            <Fact name="Appended">{record.timestamp}</Fact>
            <Fact name="Partition">{record.partition}</Fact>
            <Fact name="Offset">{record.offset}</Fact>
            <Fact name="Key">{visible(record.key ?? "none")}</Fact>
            <Fact name="Encoding">{record.schema_id === null ? record.encoding : `${record.encoding}, schema ${record.schema_id}`}</Fact>
            <Fact name="Size">{count(record.value_bytes)} bytes</Fact>
            <Fact name="Verdict">{record.verdict ?? "only a replay can tell: npx reins events"}</Fact>
            {Object.entries(record.headers).map(([name, value]) => (
              <Fact key={name} name={visible(name)} header>
                {visible(value)}
              </Fact>
            ))}
          </dl>
          <fieldset class="filter forms">
            <legend class="hidden">Form of the value</legend>
            {forms.map(([value, name]) => (
              <label key={value}>
                <input type="radio" name="form" checked={form === value} onChange={() => setForm(value)} />
                <span>{name}</span>
              </label>
            ))}
          </fieldset>
          {record.problem !== null && <p class="problem">{visible(record.problem)}</p>}
          <pre class="code value" tabIndex={0} aria-label="Value">
            <LongText key={form} text={visible(valueIn(form, record, placed))} />
          </pre>
          <p class="fetch">Fetch it yourself</p>
          <pre class="code" tabIndex={0}>
            {commandFor(record)}
          </pre>
        </>
      )}
    </aside>
  )
}

function Fact({
  name,
  header,
  children,
}: {
  readonly name: string
  readonly header?: boolean
  readonly children: JSX.Element | string | number | readonly (string | number)[]
}): JSX.Element {
  return (
    <div class={header === true ? "header-fact" : ""}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  )
}

function valueIn(form: Form, record: RawRecord, { event }: Placed): string {
  switch (form) {
    case "readable":
      return layOut(JSON.stringify(unfolded(record.value)))
    case "exact":
      return layOut(JSON.stringify(record.value))
    case "bytes":
      return record.value_base64 ?? ""
    case "event":
      return layOut(JSON.stringify(event))
    default:
      return form satisfies never
  }
}

function commandFor({ log, topic, partition, offset, encoding, session_id: sessionId }: RawRecord): string {
  if (log !== "kafka") return `npx reins events ${sessionId}`
  const decode = encoding === "avro" ? " -s value=avro -r $SCHEMA_REGISTRY_URL" : ""
  return `kcat -b $KAFKA_BROKERS -t ${topic} -p ${partition} -o ${offset} -c 1${decode}`
}
