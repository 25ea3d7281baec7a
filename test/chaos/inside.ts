// Loaded into a service before its program (`--import`), so that faults reach it from outside and its code knows nothing of them:
//
//   CHAOS_PROXY=<proxy port>:<broker port>,…   its connections to these ports go through the fault proxy
//   CHAOS_SKEW_MS=<ms>                         its wall clock is off by so much; monotonic time goes on as it is

import net from "node:net"
import process from "node:process"

const [proxyPort, brokerPorts] = (process.env["CHAOS_PROXY"] ?? "").split(":")
const skewMs = Number(process.env["CHAOS_SKEW_MS"] ?? 0)

if (proxyPort !== undefined && brokerPorts !== undefined) {
  const rerouted = new Set(brokerPorts.split(",").map(Number))
  const connect = net.connect.bind(net) as (options: net.NetConnectOpts, onConnect?: () => void) => net.Socket
  const through = (options: net.NetConnectOpts, onConnect?: () => void): net.Socket => {
    if (!("port" in options) || !rerouted.has(options.port)) return connect(options, onConnect)
    // The proxy wants to know where the connection should go before anything else.
    const socket = connect({ host: "127.0.0.1", port: Number(proxyPort) }, () => {
      socket.write(`${options.host}:${options.port}\n`)
      onConnect?.()
    })
    return socket
  }
  net.connect = through as typeof net.connect
}

if (skewMs !== 0) {
  const Real = Date
  const Skewed = class extends Real {
    constructor(...given: unknown[]) {
      if (given.length === 0) super(Real.now() + skewMs)
      else super(...(given as [number]))
    }
    static override now(): number {
      return Real.now() + skewMs
    }
  }
  globalThis.Date = Skewed as DateConstructor
}
