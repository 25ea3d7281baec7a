import assert from "node:assert/strict"
import { once } from "node:events"
import { connect, createServer } from "node:net"
import { it } from "node:test"
import { FaultProxy } from "./fault-proxy.ts"

it("a client that takes the fault proxy for a broker is turned away, and nobody else notices", async () => {
  const echo = createServer((socket) => socket.pipe(socket)).listen(0, "127.0.0.1")
  await once(echo, "listening")
  const proxy = await FaultProxy.start()
  try {
    const { port } = echo.address() as { readonly port: number }
    const socket = proxy.socketFactory({ host: "127.0.0.1", port, ssl: undefined, onConnect: () => undefined })
    await once(socket, "connect")
    const strangers = [Buffer.from([0, 0, 0, 10, 0, 1, 0, 11, 0, 0, 0, 0]), Buffer.alloc(1000), Buffer.from("no port\n")]
    for (const said of strangers) {
      const stranger = connect({ host: "127.0.0.1", port: socket.remotePort as number })
      stranger.on("error", () => undefined)
      stranger.end(said)
      stranger.resume()
      await once(stranger, "close")
    }
    const frame = Buffer.from([0, 0, 0, 8, 0, 18, 0, 0, 0, 0, 0, 1])
    socket.write(frame)
    const [answer] = (await once(socket, "data")) as [Buffer]
    assert.deepEqual(answer, frame)
    socket.destroy()
  } finally {
    await proxy.stop()
    echo.close()
  }
})
