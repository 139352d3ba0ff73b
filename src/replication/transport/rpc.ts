// Requests and answers between agents over one long-lived channel a peer, many under way at once.
// Frame: msgpack [id, method, body] or [id, error body | null, result]. Every call has an end: answer, loss or time.

import { asVxmeshError, isErrorCode, VxmeshError, type ErrorBody } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import { decodeMsgpack, encodeMsgpack } from '#platform/msgpack.ts'
import { Channel } from './channel.ts'
import { MAX_FRAME_BYTES } from './frame.ts'
import type { Mesh } from './mesh.ts'

const PROTOCOL = '/vxmesh/rpc/1'
/** Requests that one peer may have under way here. */
const MAX_SERVED = 1_024

/** Answers one method. What it throws goes back as an error body. */
export type RpcHandler = (body: unknown, from: PeerId) => Promise<unknown>

type Pending = {
  readonly resolve: (result: unknown) => void
  readonly reject: (err: VxmeshError) => void
  readonly cancelTimeout: Cancel
}

type Connection = { readonly channel: Channel; readonly pending: Map<number, Pending> }
type Call = { readonly peer: PeerId; readonly method: string; readonly body: unknown; readonly timeoutMs: number }

export class Rpc {
  readonly #mesh: Mesh
  readonly #clock: Clock
  readonly #self: PeerId
  readonly #handlers = new Map<string, RpcHandler>()
  readonly #connections = new Map<PeerId, Connection>()
  readonly #opening = new Map<PeerId, Promise<Connection>>()
  #nextId = 1

  constructor({ mesh, clock }: { readonly mesh: Mesh; readonly clock: Clock }) {
    this.#mesh = mesh
    this.#clock = clock
    this.#self = mesh.self
  }

  async start(): Promise<void> {
    await this.#mesh.handle(PROTOCOL, (peer, stream) => {
      let served = 0
      const channel = new Channel(stream, {
        frame: payload => {
          const [id, method, body] = asTriple(decodeMsgpack(payload))
          if (served >= MAX_SERVED) throw new VxmeshError('ERR_TOO_LARGE', 'too many requests under way')
          served += 1
          void this.#serve({ id, method: String(method), body }, peer).then(answer => {
            served -= 1
            channel.send(answer)
          })
        },
        closed: () => undefined
      })
    })
  }

  /** Registers the one handler of a method. */
  register(method: string, handler: RpcHandler): void {
    this.#handlers.set(method, handler)
  }

  /**
   * Calls a peer, or this host itself: who asks the leader need not know where it is.
   * @throws ERR_PEER when it cannot be reached or is lost, ERR_TIMEOUT, ERR_TOO_LARGE, or the handler's error
   */
  call(p: Call): Promise<unknown> {
    if (p.peer === this.#self) return this.#clock.within(this.#handle(p, p.peer), p.timeoutMs, () => timedOut(p))
    const open = this.#connections.get(p.peer)
    if (open !== undefined) return this.#ask(open, p, p.timeoutMs)
    return this.#connectAndAsk(p)
  }

  /** The time for connecting is part of the call's. */
  async #connectAndAsk(p: Call): Promise<unknown> {
    const until = this.#clock.nowMs() + p.timeoutMs
    const connection = await this.#clock.within(this.#connect(p.peer), p.timeoutMs, () => timedOut(p))
    return this.#ask(connection, p, Math.max(1, until - this.#clock.nowMs()))
  }

  #ask(connection: Connection, p: Call, timeoutMs: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++
      if (!connection.channel.send(encodeMsgpack([id, p.method, p.body]))) {
        throw new VxmeshError('ERR_PEER', `peer ${p.peer} takes no more requests`)
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

  /** The answer's frame; never rejects. */
  async #serve(p: { id: number; method: string; body: unknown }, from: PeerId): Promise<Uint8Array> {
    try {
      const answer = encodeMsgpack([p.id, null, await this.#handle(p, from)])
      if (answer.byteLength <= MAX_FRAME_BYTES) return answer
      throw new VxmeshError('ERR_TOO_LARGE', `an answer of ${answer.byteLength} bytes is over ${MAX_FRAME_BYTES}`)
    } catch (err) {
      return encodeMsgpack([p.id, asVxmeshError(err).toBody(), null])
    }
  }

  #connect(peer: PeerId): Promise<Connection> {
    const already = this.#opening.get(peer)
    if (already !== undefined) return already
    const opening = this.#open(peer).finally(() => this.#opening.delete(peer))
    this.#opening.set(peer, opening)
    return opening
  }

  async #open(peer: PeerId): Promise<Connection> {
    const stream = await this.#mesh.openStream(peer, PROTOCOL)
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

function settle(pending: Map<number, Pending>, answer: unknown): void {
  const [id, error, result] = asTriple(answer)
  const call = pending.get(id)
  if (call === undefined) return // its time had run out
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
