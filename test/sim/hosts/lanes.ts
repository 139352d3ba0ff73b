// Clients of whole hosts. A lane has one operation at a time: it attaches a container, detaches one, or asks for a read
// index, at any host that runs. When the outcome is unknown it retries under the same request id, perhaps elsewhere.

import type { Command } from '#model/command.ts'
import { asVxmeshError, type ErrorCode } from '#model/errors.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import { parseSubnet } from '#model/ip.ts'
import { formatIpv4 } from '#model/ipv4.ts'
import { isRetryable } from '#replication/consensus/retryable.ts'
import type { Counters } from '../counters.ts'
import type { Random } from '../random.ts'
import type { Schedule } from '../schedule.ts'
import type { SimHost } from './host.ts'
import type { Oracle } from './oracle.ts'

/** The outcome of these is unknown: retry under the same request id. */
const UNKNOWN: ReadonlySet<ErrorCode> = new Set(['ERR_SESSION_EXPIRED', 'ERR_AGENT_UNREACHABLE', 'ERR_NO_QUORUM'])
/** Longer than a proposer's deadline: after it the host has crashed. */
const GIVE_UP_MS = 6_000
const HELD_MAX = 6

/** The container that is always there. */
export const ANCHOR = parseContainerId('anchor')
const NETWORK = parseNetworkName('net')
const IFNAME = parseIfName('eth0')

type Operation = {
  readonly requestId: string
  readonly command: Command
  readonly seenBefore: number
  attempts: number
  isDone: boolean
  readonly done: (result: Record<string, unknown> | null) => void
}

/** The acknowledged changes, for the final comparison with the state. */
export type Acknowledged = {
  /** Container id to address. */
  readonly held: Map<string, string>
  readonly detached: Set<string>
}

export class Lanes {
  readonly acknowledged: Acknowledged = { held: new Map(), detached: new Set() }
  count = 0
  readonly #hosts: readonly SimHost[]
  readonly #random: Random
  readonly #schedule: Schedule
  readonly #oracle: Oracle
  readonly #probes: Counters
  #next = 1
  #untilMs = 0

  constructor(p: {
    readonly hosts: readonly SimHost[]
    readonly random: Random
    readonly schedule: Schedule
    readonly oracle: Oracle
    readonly probes: Counters
  }) {
    this.#hosts = p.hosts
    this.#random = p.random
    this.#schedule = p.schedule
    this.#oracle = p.oracle
    this.#probes = p.probes
  }

  /** Registers the hosts, unless they do so themselves, and creates the network; then runs the lanes until a time. */
  run(p: {
    readonly lanes: number
    readonly thinkMs: number
    readonly untilMs: number
    readonly registers: boolean
  }): void {
    this.#untilMs = p.untilMs
    const setUp: Command[] = p.registers ? this.#hosts.map(({ row }) => ({ kind: 'host-register', host: row })) : []
    const subnet = parseSubnet('10.0.0.0/20')
    const facts = { egressRate: 0, mtu: 1_400, egress: false, hostAccess: false }
    setUp.push({ kind: 'network-create', name: NETWORK, subnet, requestId: 'network', ...facts })
    const [first] = this.#hosts
    // Never detached: a client host may not change a network in which another has endpoints.
    if (first !== undefined) setUp.push({ ...this.#attach(first), containerId: ANCHOR })
    const next = (): void => {
      const command = setUp.shift()
      if (command !== undefined) this.#begin(command, next)
      else for (let n = 0; n < p.lanes; n++) this.#lane([], p.thinkMs)
    }
    next()
  }

  /** One attach at one host, to see whether it makes progress. */
  attachAt(host: SimHost, done: () => void): void {
    const operation = this.#operation(this.#attach(host), done)
    this.#attempt(operation, host)
  }

  #lane(held: string[], thinkMs: number): void {
    this.#schedule.after(this.#random.between(0, 2 * thinkMs), () => {
      if (this.#schedule.nowMs >= this.#untilMs) return
      const again = (): void => this.#lane(held, thinkMs)
      const choice = this.#random.unit()
      const oldest = held[0]
      if (choice < 0.2) this.#readIndex(again)
      else if (choice > 0.85 && held.length < HELD_MAX) this.#burst(held, again)
      else if (oldest !== undefined && (held.length >= HELD_MAX || choice < 0.4)) {
        held.shift()
        this.#detach(oldest, again)
      } else {
        const command = this.#attach(this.#random.pick(this.#hosts))
        this.#begin(command, (result, attempts) => {
          // A retry that is still in flight may attach the container again after a detach.
          if (result !== null && attempts === 1) held.push(String(command.containerId))
          again()
        })
      }
    })
  }

  /** Several containers at one host in one turn: their proposals travel in one frame. */
  #burst(held: string[], again: () => void): void {
    const host = this.#pickHost()
    if (host === undefined) {
      again()
      return
    }
    this.#probes.add('burst-of-proposals')
    const commands = Array.from({ length: 2 + this.#random.below(7) }, () => this.#attach(host))
    let left = commands.length
    for (const command of commands) {
      const operation = this.#operation(command, result => {
        if (result !== null && operation.attempts === 1) held.push(String(command.containerId))
        left -= 1
        if (left === 0) again()
      })
      this.#attempt(operation, host)
    }
  }

  #attach({ peerId }: SimHost): Extract<Command, { readonly kind: 'endpoint-attach' }> {
    const containerId = parseContainerId(`c${this.#next++}`)
    const facts = { ifname: IFNAME, name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
    return { kind: 'endpoint-attach', network: NETWORK, host: peerId, containerId, requestId: containerId, ...facts }
  }

  #detach(containerId: string, again: () => void): void {
    // From now on it may be detached at any moment.
    this.acknowledged.held.delete(containerId)
    const command = { kind: 'endpoint-detach', containerId: parseContainerId(containerId), ifname: IFNAME } as const
    this.#begin(command, () => {
      this.acknowledged.detached.add(containerId)
      again()
    })
  }

  #begin(command: Command, done: (result: Record<string, unknown> | null, attempts: number) => void): void {
    const operation = this.#operation(command, result => done(result, operation.attempts))
    this.#attempt(operation, this.#pickHost())
  }

  #operation(command: Command, done: Operation['done']): Operation {
    const requestId =
      'containerId' in command ? `${command.kind} ${command.containerId}` : `${command.kind} ${this.#next++}`
    return { requestId, command, seenBefore: this.#oracle.observedIndex, attempts: 0, isDone: false, done }
  }

  #attempt(operation: Operation, host: SimHost | undefined): void {
    const { replicator } = host ?? {}
    const retry = (): void => {
      this.#schedule.after(this.#random.between(1, 300), () => {
        if (!operation.isDone) this.#attempt(operation, this.#pickHost())
      })
    }
    if (replicator === undefined || replicator === null) {
      retry()
      return
    }
    operation.attempts += 1
    if (operation.attempts === 2) this.#probes.add('request-retried-by-the-client')
    let isSettled = false
    const settle = (run: () => void): void => {
      if (isSettled) return
      isSettled = true
      run()
    }
    const { retries } = replicator.log
    replicator.log.propose(operation.command).then(
      ({ result, index }) => {
        if (replicator.log.retries > retries) this.#probes.add('request-retried-by-the-proposer')
        this.#answered(operation, index, result)
        settle(() => undefined)
      },
      (err: unknown) => settle(() => this.#refused(operation, err, retry))
    )
    this.#schedule.after(GIVE_UP_MS, () => settle(retry))
  }

  #answered(operation: Operation, index: number, result: unknown): void {
    const { requestId, command, seenBefore, attempts } = operation
    const facts = result as Record<string, unknown>
    const endpoint = facts['endpoint'] as { readonly address: number; readonly containerId: string } | undefined
    const answer = endpoint === undefined ? '' : `${endpoint.containerId} ${endpoint.address}`
    this.#oracle.answered({ requestId, index: index as never, result, answer, seenBefore })
    if (attempts === 1 && command.kind === 'endpoint-attach' && facts['created'] !== true)
      this.#oracle.fail(`${requestId} was sent once, and the answer says that it existed before`)
    if ('containerId' in command && endpoint?.containerId !== command.containerId)
      this.#oracle.fail(`${requestId} got the answer of another request: ${answer}`)
    this.count += 1
    if (operation.isDone) return
    operation.isDone = true
    if (command.kind === 'endpoint-attach' && endpoint !== undefined) this.#hold(endpoint)
    operation.done(facts)
  }

  #hold({ address, containerId }: { readonly address: number; readonly containerId: string }): void {
    const text = formatIpv4(address as never)
    for (const [other, held] of this.acknowledged.held) {
      if (held === text) this.#oracle.fail(`${text} is allocated to ${other} and to ${containerId}`)
    }
    this.acknowledged.held.set(containerId, text)
  }

  #refused(operation: Operation, thrown: unknown, retry: () => void): void {
    if (operation.isDone) return
    const err = asVxmeshError(thrown)
    // Another host may: the owner, or a server.
    if (err.code === 'ERR_NOT_ALLOWED') operation.attempts -= 1
    if (UNKNOWN.has(err.code) || isRetryable(err) || err.code === 'ERR_NOT_ALLOWED') {
      retry()
      return
    }
    const { requestId, command, attempts } = operation
    const wasDone = attempts > 1 && command.kind === 'endpoint-detach' && err.code === 'ERR_ENDPOINT_NOT_FOUND'
    const wasCreated = attempts > 1 && command.kind === 'network-create' && err.code === 'ERR_NETWORK_EXISTS'
    if (!wasDone && !wasCreated) this.#oracle.fail(`${requestId} is refused: ${err.code} ${err.message}`)
    operation.isDone = true
    operation.done(null)
  }

  #readIndex(again: () => void): void {
    const replicator = this.#pickHost()?.replicator
    const seenBefore = this.#oracle.observedIndex
    let isOver = false
    const once = (): void => {
      if (!isOver) again()
      isOver = true
    }
    this.#schedule.after(GIVE_UP_MS, once)
    replicator?.log.readIndex().then(
      index => {
        this.#oracle.read(index, seenBefore)
        this.#probes.add('read-index-served')
        once()
      },
      () => once()
    )
  }

  #pickHost(): SimHost | undefined {
    const running = this.#hosts.filter(({ replicator }) => replicator !== null)
    return running.length === 0 ? undefined : this.#random.pick(running)
  }
}
