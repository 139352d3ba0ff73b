// Requests and replies between agents over one long-lived channel per peer, many in flight at once. Frame: msgpack
// [id, method, body] or [id, error body | null, result]. Every call ends with a reply, a lost channel or a timeout.

import { asVxmeshError, isErrorCode, VxmeshError, type ErrorBody } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { Channel } from './channel.ts'
import { MAX_FRAME_BYTES } from './frame.ts'
import type { MeshPort } from './mesh-port.ts'

/** The protocol of requests that nobody's change waits for. */
const RPC_PROTOCOL = '/vxmesh/rpc/1'
/** Requests of one peer in flight here, and their bytes. Twice what a proposer sends; one more is refused with ERR_BUSY. */
const MAX_IN_FLIGHT = 4_096
const MAX_IN_FLIGHT_BYTES = 4 * MAX_FRAME_BYTES

/** Serves one method. An exception is returned to the caller as an error body. */
type RpcHandler = (body: unknown, from: PeerId) => Promise<unknown>

type Pending = {
  readonly resolve: (result: unknown) => void
  readonly reject: (err: VxmeshError) => void
  readonly cancelTimeout: Cancel
}

type Connection = { readonly channel: Channel; readonly pending: Map<number, Pending> }
type Call = { readonly peer: PeerId; readonly method: string; readonly body: unknown; readonly timeoutMs: number }

export class Rpc {
  readonly #mesh: MeshPort
  readonly #clock: Clock
  readonly #protocol: string
  readonly #self: PeerId
  readonly #handlers = new Map<string, RpcHandler>()
  readonly #connections = new Map<PeerId, Connection>()
  readonly #opening = new Map<PeerId, Promise<Connection>>()
  #nextId = 1

  /** @param p.protocol of its streams; RPC_PROTOCOL by default */
  constructor(p: { readonly mesh: MeshPort; readonly clock: Clock; readonly protocol?: string }) {
    this.#mesh = p.mesh
    this.#clock = p.clock
    this.#protocol = p.protocol ?? RPC_PROTOCOL
    this.#self = p.mesh.self
  }

  async start(): Promise<void> {
    await this.#mesh.handle(this.#protocol, (peer, stream) => {
      const inFlight = { requests: 0, bytes: 0 }
      const channel = new Channel(stream, {
        frame: payload => {
          const [id, method, body] = asTriple(decodeMsgpack(payload))
          const { byteLength } = payload
          const overloaded = inFlight.requests >= MAX_IN_FLIGHT || inFlight.bytes + byteLength > MAX_IN_FLIGHT_BYTES
          if (overloaded) {
            channel.send(refusal(id, new VxmeshError('ERR_BUSY', 'too many requests are in flight; retry')))
            return
          }
          inFlight.requests += 1
          inFlight.bytes += byteLength
          void this.#serve({ id, method: String(method), body }, peer).then(reply => {
            inFlight.requests -= 1
            inFlight.bytes -= byteLength
            channel.send(reply)
          })
        },
        closed: () => undefined
      })
    })
  }

  /** Sets the handler of a method. */
  register(method: string, handler: RpcHandler): void {
    this.#handlers.set(method, handler)
  }

  /**
   * Calls a peer, or this host itself, so that callers of the leader need not care where it runs.
   * @throws ERR_PEER when the peer is unreachable or lost, ERR_TIMEOUT, ERR_TOO_LARGE, or the handler's error
   */
  call(p: Call): Promise<unknown> {
    if (p.peer === this.#self) return this.#clock.within(this.#handle(p, p.peer), p.timeoutMs, () => timedOut(p))
    const open = this.#connections.get(p.peer)
    if (open !== undefined) return this.#request(open, p, p.timeoutMs)
    return this.#connectAndRequest(p)
  }

  /** The call's timeout includes the time to connect. */
  async #connectAndRequest(p: Call): Promise<unknown> {
    const until = this.#clock.nowMs() + p.timeoutMs
    const connection = await this.#clock.within(this.#connect(p.peer), p.timeoutMs, () => timedOut(p))
    return this.#request(connection, p, Math.max(1, until - this.#clock.nowMs()))
  }

  #request(connection: Connection, p: Call, timeoutMs: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      if (!connection.channel.send(encodeMsgpack([id, p.method, p.body]))) {
        throw new VxmeshError('ERR_PEER', `peer ${p.peer} accepts no more requests`)
      }
      const cancelTimeout = this.#clock.after(timeoutMs, () => {
        connection.pending.delete(id)
        reject(timedOut(p))
      })
      connection.pending.set(id, { resolve, reject, cancelTimeout })
    })
  }

  async #handle(p: { method: string; body: unknown }, from: PeerId): Promise<unknown> {
    const handler = this.#handlers.get(p.method)
    if (handler === undefined) throw new VxmeshError('ERR_UNSUPPORTED', `no such request: ${p.method.slice(0, 40)}`)
    return handler(p.body, from)
  }

  /** Builds the reply's frame; never rejects. */
  async #serve(p: { id: number; method: string; body: unknown }, from: PeerId): Promise<Uint8Array> {
    try {
      const reply = encodeMsgpack([p.id, null, await this.#handle(p, from)])
      if (reply.byteLength <= MAX_FRAME_BYTES) return reply
      throw new VxmeshError('ERR_TOO_LARGE', `a reply of ${reply.byteLength} bytes is over ${MAX_FRAME_BYTES}`)
    } catch (err) {
      return refusal(p.id, asVxmeshError(err))
    }
  }

  #connect(peer: PeerId): Promise<Connection> {
    const inProgress = this.#opening.get(peer)
    if (inProgress !== undefined) return inProgress
    const opening = this.#open(peer).finally(() => this.#opening.delete(peer))
    this.#opening.set(peer, opening)
    return opening
  }

  async #open(peer: PeerId): Promise<Connection> {
    const stream = await this.#mesh.openStream(peer, this.#protocol)
    const pending = new Map<number, Pending>()
    const channel = new Channel(stream, {
      frame: payload => settle(pending, decodeMsgpack(payload)),
      closed: reason => {
        if (this.#connections.get(peer)?.pending === pending) this.#connections.delete(peer)
        for (const { reject, cancelTimeout } of pending.values()) {
          cancelTimeout()
          reject(new VxmeshError('ERR_PEER', `peer ${peer} was lost`, { cause: reason ?? undefined }))
        }
        pending.clear()
      }
    })
    const connection = { channel, pending }
    this.#connections.set(peer, connection)
    return connection
  }
}

function refusal(id: number, err: VxmeshError): Uint8Array {
  return encodeMsgpack([id, err.toBody(), null])
}

function settle(pending: Map<number, Pending>, reply: unknown): void {
  const [id, error, result] = asTriple(reply)
  const call = pending.get(id)
  if (call === undefined) return // it timed out
  pending.delete(id)
  call.cancelTimeout()
  if (error === null) call.resolve(result)
  else call.reject(VxmeshError.fromBody(asErrorBody(error)))
}

function asTriple(value: unknown): [number, unknown, unknown] {
  if (!Array.isArray(value) || value.length !== 3 || typeof value[0] !== 'number') {
    throw new VxmeshError('ERR_PEER', 'a malformed RPC frame')
  }
  return value as [number, unknown, unknown]
}

function asErrorBody(value: unknown): ErrorBody {
  const body = (typeof value === 'object' ? value : null) as Partial<ErrorBody> | null
  const code = typeof body?.code === 'string' && isErrorCode(body.code) ? body.code : 'ERR_INTERNAL'
  const message = typeof body?.message === 'string' ? body.message : 'a malformed error'
  return typeof body?.field === 'string' ? { code, message, field: body.field } : { code, message }
}

function timedOut(p: { peer: PeerId; method: string; timeoutMs: number }): VxmeshError {
  return new VxmeshError('ERR_TIMEOUT', `peer ${p.peer} did not answer "${p.method}" in ${p.timeoutMs} ms`)
}
