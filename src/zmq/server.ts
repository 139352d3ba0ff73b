// The three sockets of the paper's API (contract 6.5). Requests arrive on SUB and ROUTER; every answer and every change is
// published on PUB, and a caller on ROUTER also gets its own answer.

import { Publisher, Router, Subscriber } from 'zeromq'
import type { AgentEvent } from '#model/event.ts'
import { asVxmeshError, invalid, VxmeshError } from '#model/errors.ts'
import type { Cancel, Clock } from '#platform/clock.ts'
import { collectGarbage } from '#platform/garbage.ts'
import type { Logger } from '#platform/log.ts'
import { UseCounts } from '#platform/use-counts.ts'
import { AnswerQueue, type Sent } from './answer-queue.ts'
import { connectionOfEvent, serviceOfEvent, tenantNetworkOf, type InterfaceIndex } from './answers.ts'
import {
  ANSWER,
  decodeRequest,
  encodeConnection,
  encodeMessage,
  encodeNetwork,
  encodeService,
  MAX_MESSAGE_BYTES,
  type TypedRequest
} from './message.ts'
import { OrderedWork } from './ordered-work.ts'
import { errorMessage, ZmqService, type ZmqPort } from './service.ts'
import { ZapHandler } from './zap.ts'

/** Most requests queued or running; beyond that the answer is ERR_BUSY. */
const MAX_REQUESTS = 20_000
/** The same in bytes: as many requests of 400 B, which take twice that while they run. */
const MAX_REQUEST_BYTES = 8 * 1024 * 1024
/**
 * Bytes of requests in progress above which no more are read from ROUTER: they wait at their peers, while answers to earlier
 * ones are sent or dropped.
 */
const READ_BELOW_BYTES = 512 * 1024
/** Requests that the library queues per peer. */
const HIGH_WATER_MARK = 20_000
/**
 * Messages that the library queues for a subscriber before it drops those that follow: 42 MiB of the largest ones, of 17 KiB.
 * The sockets' buffers on both sides hold some thousands of usual size beside them.
 */
const EVENTS_HIGH_WATER_MARK = 2_560
/**
 * The same for requests from one ROUTER peer, 2 MiB of the largest ones. Excess requests wait at the peer: unlike PUB,
 * its socket blocks instead of dropping.
 */
const ASKED_HIGH_WATER_MARK = 32
/** The same for answers to one peer: 2 MiB of the largest ones. Excess answers wait in AnswerQueue. */
const ANSWERS_HIGH_WATER_MARK = 128
/** Received messages are collected after so many bytes: 5,000 requests of usual size, 32 of the largest. */
const COLLECT_BYTES = 2 * 1024 * 1024
/** The same for those that have waited, and for what they have left in malloc's arenas. */
const COLLECT_ALL_BYTES = 16 * 1024 * 1024
/** How long after that many bytes everything is collected once more. */
const COLLECT_QUIET_MS = 5_000
/** The kernel disconnects a peer that acknowledges none of its queued bytes for this long (TCP_USER_TIMEOUT). */
const PROGRESS_TIMEOUT_MS = 60_000
/**
 * ZAP domain. Any non-empty one makes the library consult the handler for each connection, and refuse protocols older
 * than ZMTP 3.0, such as HTTP.
 */
const ZAP_DOMAIN = 'vxmesh'
/** Of the events socket, so that its clients are told from the others. */
const EVENTS_DOMAIN = 'vxmesh-events'
const UNIX = 'ipc://'
/** Events by the type of the request that they are the answer to. */
const ENDPOINT_EVENTS = { 'endpoint-attached': 1, 'endpoint-detached': 2, 'endpoint-updated': 4 } as const

/** Keys as 40 characters of Z85: the server's secret key, and the public keys of the allowed clients. */
export type CurveKeys = { readonly secretKey: string; readonly allowedKeys: readonly string[] }

export type ZmqOptions = {
  readonly addresses: { readonly requests: string; readonly events: string; readonly rpc: string }
  /** Null: no authentication, which is safe on loopback only. */
  readonly curve: CurveKeys | null
  readonly agent: ZmqPort
  readonly interfaceIndex: InterfaceIndex
  readonly clock: Clock
  readonly logger: Logger
}

export class ZmqServer {
  readonly #options: ZmqOptions
  readonly #service: ZmqService
  readonly #work = new OrderedWork({ maxTasks: MAX_REQUESTS, maxBytes: MAX_REQUEST_BYTES })
  readonly #requests: Subscriber
  readonly #events: Publisher
  readonly #rpc: Router
  readonly #answers: AnswerQueue
  readonly #zap: ZapHandler
  /** Requests in progress per subject. Their answers are published, so the events of the same changes are not. */
  readonly #inProgress = new UseCounts<string>()
  #sending: Promise<void> = Promise.resolve()
  /** Null until the first client is let in on the events socket: until then changes are neither described nor encoded. */
  #stopWatching: (() => void) | null = null
  #cancelCollect: Cancel = () => undefined
  /** Bytes since the start. */
  #received = 0

  private constructor(options: ZmqOptions) {
    const { curve } = options
    const guard = curve === null ? {} : { curveServer: true, curveSecretKey: curve.secretKey }
    // Enforced: without a handler no client is let in.
    const zap = { zapDomain: ZAP_DOMAIN, zapEnforceDomain: true }
    const bounds = { linger: 0, tcpMaxRetransmitTimeout: PROGRESS_TIMEOUT_MS, ...zap, ...guard }
    const incoming = { maxMessageSize: MAX_MESSAGE_BYTES, receiveHighWaterMark: HIGH_WATER_MARK, ...bounds }
    this.#options = options
    this.#service = new ZmqService(options.agent, options.interfaceIndex)
    this.#requests = new Subscriber(incoming)
    // `mandatory` with no timeout: a send tells at once when the peer is gone or does not read.
    const bounded = {
      receiveHighWaterMark: ASKED_HIGH_WATER_MARK,
      sendHighWaterMark: ANSWERS_HIGH_WATER_MARK,
      sendTimeout: 0,
      mandatory: true
    }
    this.#rpc = new Router({ ...incoming, ...bounded, handover: true })
    this.#answers = new AnswerQueue({
      send: parts => this.#sendAnswer(parts),
      clock: options.clock,
      onDrop: bytes => {
        options.logger.warn({ bytes }, 'answers dropped: a zmq peer asks but does not read')
        void collectGarbage('major')
      }
    })
    this.#events = new Publisher({
      ...bounds,
      zapDomain: EVENTS_DOMAIN,
      maxMessageSize: MAX_MESSAGE_BYTES,
      sendHighWaterMark: EVENTS_HIGH_WATER_MARK
    })
    // Before the client can subscribe, so that it misses nothing. PUB does not tell when the last one has left, and XPUB, which
    // does, keeps whatever its clients send in memory.
    const onAdmit = (domain: string): void => {
      if (domain === EVENTS_DOMAIN) this.#stopWatching ??= options.agent.watch(event => this.#publish(event))
    }
    this.#zap = new ZapHandler({ allowedKeys: curve?.allowedKeys ?? null, onAdmit })
  }

  /** Binds and serves until stopped. @throws ERR_CONFIG naming the key whose address cannot be bound */
  static async start(options: ZmqOptions): Promise<ZmqServer> {
    const server = new ZmqServer(options)
    try {
      await server.#bind()
      await server.#zap.start(options.clock)
    } catch (err) {
      server.#close()
      throw err
    }
    server.#requests.subscribe()
    void server.#readRequests()
    void server.#readRpc()
    return server
  }

  async stop(): Promise<void> {
    this.#stopWatching?.()
    this.#cancelCollect()
    await this.#work.settled()
    await this.#sending
    await this.#answers.stop()
    this.#close()
  }

  async #bind(): Promise<void> {
    const { requests, events, rpc } = this.#options.addresses
    for (const [key, socket, address] of [
      ['zmq.requests', this.#requests, requests],
      ['zmq.events', this.#events, events],
      ['zmq.rpc', this.#rpc, rpc]
    ] as const) {
      try {
        socket.ipv6 = address.startsWith('tcp://[')
        await (address.startsWith(UNIX) ? bindForOwner(socket, address) : socket.bind(address))
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause)
        throw new VxmeshError('ERR_CONFIG', `${key}: ${address} cannot be bound: ${why}`, { field: key, cause })
      }
    }
  }

  #close(): void {
    for (const socket of [this.#requests, this.#rpc, this.#events]) socket.close()
    this.#zap.close()
  }

  async #readRequests(): Promise<void> {
    await this.#read(this.#requests, parts => {
      this.#take(parts, () => undefined)
      return Promise.resolve()
    })
  }

  /** The envelope is the identity that ROUTER prepends, with the empty delimiter of a REQ; it is returned unchanged. */
  async #readRpc(): Promise<void> {
    await this.#read(this.#rpc, async parts => {
      await this.#work.below(READ_BELOW_BYTES)
      const [sender] = parts
      const envelope = parts[1]?.byteLength === 0 && parts.length > 2 ? parts.slice(0, 2) : parts.slice(0, 1)
      if (sender === undefined || this.#answers.isDeaf(sender)) return
      this.#take(parts.slice(envelope.length), answer => this.#answers.add([...envelope, answer]))
    })
  }

  async #read(socket: Subscriber | Router, take: (parts: Buffer[]) => Promise<void>): Promise<void> {
    try {
      for await (const parts of socket) {
        await take(parts)
        this.#collect(parts.reduce((sum, part) => sum + part.byteLength, 0))
      }
    } catch (err) {
      if (!socket.closed) this.#options.logger.error({ err: asVxmeshError(err) }, 'zmq socket failed')
    }
  }

  /** Received messages are outside V8's heap, which does not see how much they take. */
  #collect(bytes: number): void {
    const before = this.#received
    this.#received += bytes
    const passed = (step: number): boolean => Math.floor(before / step) !== Math.floor(this.#received / step)
    if (passed(COLLECT_ALL_BYTES)) void collectGarbage('major')
    else if (passed(COLLECT_BYTES)) this.#collectLater()
  }

  /** At once what has not waited; the rest when the peers may be gone. */
  #collectLater(): void {
    void collectGarbage('minor')
    this.#cancelCollect()
    this.#cancelCollect = this.#options.clock.after(COLLECT_QUIET_MS, () => void collectGarbage('major'))
  }

  /** Handles one request. `reply` answers the caller only; the answer is also published on the events socket. */
  #take(parts: readonly Buffer[], reply: (answer: Buffer) => void): void {
    const publish = (answer: Buffer): void => {
      reply(answer)
      this.#announce(answer)
    }
    const [message] = parts
    let request: TypedRequest
    try {
      if (message === undefined || parts.length !== 1)
        throw invalid('message', `must have one part, not ${parts.length}`)
      request = decodeRequest(message)
    } catch (err) {
      publish(errorMessage(asVxmeshError(err), null))
      return
    }
    const run = (): Promise<void> =>
      this.#inProgress.during(subjectOf(request), async () => publish(await this.#service.answer(request)))
    if (this.#work.add({ key: keyOf(request), bytes: message.byteLength, run })) return
    publish(errorMessage(new VxmeshError('ERR_BUSY', 'too many requests are in progress; retry later'), request))
  }

  /**
   * Serializes sends: a socket accepts one message at a time. A queued send keeps only the message in memory, not the
   * request.
   */
  #announce(message: Buffer): void {
    this.#sending = this.#sending
      .then(() => this.#events.send(message))
      .catch((err: unknown) => {
        if (!this.#events.closed) this.#options.logger.debug({ err: asVxmeshError(err) }, 'zmq answer not sent')
      })
  }

  async #sendAnswer(parts: Buffer[]): Promise<Sent> {
    try {
      await this.#rpc.send(parts)
      return 'sent'
    } catch (err) {
      const full = err instanceof Error && 'code' in err && err.code === 'EAGAIN'
      return full && !this.#rpc.closed ? 'full' : 'gone'
    }
  }

  /** Publishes a change made through another interface or on another host. */
  #publish(event: AgentEvent): void {
    switch (event.kind) {
      case 'endpoint-attached':
      case 'endpoint-updated':
      case 'endpoint-detached': {
        if (this.#inProgress.has(`endpoint ${event.endpoint.containerId}`)) return
        const type = ANSWER + ENDPOINT_EVENTS[event.kind]
        const connection = connectionOfEvent(event.endpoint, event.index)
        this.#announce(encodeMessage(type, encodeConnection(connection)))
        return
      }
      case 'network-created':
      case 'network-updated':
      case 'network-deleted': {
        if (this.#inProgress.has(`network ${event.network.name}`)) return
        const type = ANSWER + (event.kind === 'network-deleted' ? 12 : 11)
        this.#announce(encodeMessage(type, encodeNetwork(tenantNetworkOf(event.network))))
        return
      }
      case 'service-created':
      case 'service-updated':
      case 'service-deleted': {
        const { network, name } = event.service
        if (this.#inProgress.has(`service ${network}/${name}`)) return
        const type = ANSWER + (event.kind === 'service-deleted' ? 22 : 21)
        this.#announce(encodeMessage(type, encodeService(serviceOfEvent(event.service, event.index))))
        return
      }
      default:
    }
  }
}

/** Binds a UNIX socket that nobody else may connect to, not even between its creation and a chmod. */
async function bindForOwner(socket: Subscriber | Publisher | Router, address: string): Promise<void> {
  const umask = process.umask(0o177)
  try {
    await socket.bind(address)
  } finally {
    process.umask(umask)
  }
}

/** The ordering key: the container, the service, or null (a barrier) for requests about networks. No container's id has a slash. */
function keyOf({ request }: TypedRequest): string | null {
  if ('network' in request) return null
  return 'connection' in request ? request.connection.id : `${request.service.network}/${request.service.name}`
}

function subjectOf({ request }: TypedRequest): string {
  if ('network' in request) return `network ${request.network.name}`
  if ('connection' in request) return `endpoint ${request.connection.id}`
  return `service ${request.service.network}/${request.service.name}`
}
