// Readiness by asking. Two requests of the Kafka protocol, written by hand so that the question does not depend on the
// client that is under test (ApiVersions v0, then Metadata v1: brokers and controller, no topics).

import { connect } from "node:net"

export type ClusterView = { readonly brokerIds: readonly number[]; readonly controllerId: number }

const apiVersionsKey = 18
const metadataKey = 3
const controllerUnknown = -1

export async function describeCluster(host: string, port: number, timeoutMs: number): Promise<ClusterView> {
  const socket = connect({ host, port })
  socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`No answer within ${timeoutMs} ms.`)))
  try {
    const answers = frames(socket)
    socket.write(request(apiVersionsKey, 0, 1, Buffer.alloc(0)))
    const versions = await nextFrame(answers)
    const errorCode = versions.readInt16BE(4)
    if (errorCode !== 0) throw new Error(`ApiVersions was answered with error ${errorCode}.`)
    const noTopics = Buffer.alloc(4)
    socket.write(request(metadataKey, 1, 2, noTopics))
    return readMetadata(await nextFrame(answers))
  } finally {
    socket.destroy()
  }
}

/** Waits until every one of `ports` answers and sees all of `ids` and a controller. */
export async function clusterReady(
  ports: readonly number[],
  ids: readonly number[],
  timeoutMs: number,
  gaveUp: () => string | undefined,
): Promise<void> {
  await eventually(timeoutMs, gaveUp, async () => {
    for (const port of ports) {
      const view = await describeCluster("127.0.0.1", port, 2_000)
      const unseen = ids.filter((id) => !view.brokerIds.includes(id))
      if (unseen.length > 0) throw new Error(`The broker on port ${port} does not see broker ${unseen.join(", ")}.`)
      if (view.controllerId === controllerUnknown) throw new Error(`The broker on port ${port} sees no controller.`)
    }
  })
}

/** Asks again until the question stops throwing, the time is over, or `gaveUp` names a reason to stop. */
export async function eventually(timeoutMs: number, gaveUp: () => string | undefined, ask: () => Promise<void>): Promise<void> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const reason = gaveUp()
    if (reason !== undefined) throw new Error(reason)
    try {
      await ask()
      return
    } catch (error) {
      if (performance.now() > deadline) throw new Error(`Not ready after ${timeoutMs} ms.`, { cause: error })
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

function request(apiKey: number, version: number, correlationId: number, body: Buffer): Buffer {
  const clientId = Buffer.from("reins-probe")
  const head = Buffer.alloc(14)
  head.writeInt32BE(10 + clientId.length + body.length, 0)
  head.writeInt16BE(apiKey, 4)
  head.writeInt16BE(version, 6)
  head.writeInt32BE(correlationId, 8)
  head.writeInt16BE(clientId.length, 12)
  return Buffer.concat([head, clientId, body])
}

/** The frames of a connection, each from its correlation id on. */
async function* frames(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  let pending: Buffer = Buffer.alloc(0)
  for await (const chunk of chunks) {
    pending = Buffer.concat([pending, chunk])
    while (pending.length >= 4 && pending.length >= 4 + pending.readInt32BE(0)) {
      const end = 4 + pending.readInt32BE(0)
      yield pending.subarray(4, end)
      pending = pending.subarray(end)
    }
  }
}

async function nextFrame(answers: AsyncGenerator<Buffer, void>): Promise<Buffer> {
  const { value } = await answers.next()
  if (value === undefined) throw new Error("The broker closed the connection.")
  return value
}

function readMetadata(frame: Buffer): ClusterView {
  let at = 4
  const brokerIds: number[] = []
  const skipString = (): void => {
    const length = frame.readInt16BE(at)
    at += 2 + Math.max(length, 0)
  }
  const count = frame.readInt32BE(at)
  at += 4
  for (let i = 0; i < count; i++) {
    brokerIds.push(frame.readInt32BE(at))
    at += 4
    skipString() // host
    at += 4 // port
    skipString() // rack
  }
  return { brokerIds, controllerId: frame.readInt32BE(at) }
}
