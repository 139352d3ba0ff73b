// Builds a state from the sections of a snapshot, one at a time, beside the state that is in use. It takes the same steps as
// applying commands, so an inconsistent state cannot be restored. A snapshot of format 1 or 2 is a single value. Pure.

import { VxmeshError } from '#model/errors.ts'
import type { Host } from '#model/host.ts'
import type { Vni } from '#model/ids.ts'
import { raiseRules } from './cluster-rules.ts'
import { digestOf } from './digest.ts'
import { parseNamespaceRow, parsePolicyRow, parseServiceRow } from './parse-row.ts'
import { indexOf, restoreEndpoint, restoreHost, restoreNetwork, restoreRules, restoreSession } from './plain-rows.ts'
import { Sessions } from './sessions.ts'
import { decodeState } from './snapshot.ts'
import { ClusterState } from './state-machine.ts'
import {
  SECTION_FORMAT,
  UNGATED_FORMAT,
  type NetworkPart,
  type SectionHead,
  type StateSection
} from './state-sections.ts'
import { Tables } from './tables.ts'

const STEP_ROWS = 64

export class StateBuilder {
  #head: SectionHead | null = null
  readonly #hosts: Host[] = []
  readonly #tables = new Tables()
  readonly #sessions = new Sessions()
  #rows = 0
  #state: ClusterState | null = null

  /** Adds the next section, as StateCursor returned it. @throws ERR_STORAGE when it is malformed or contradicts the others */
  add(section: unknown): void {
    const steps = this.steps(section)
    while (steps.next().done !== true);
  }

  /** The same in steps of less than a millisecond of work; a state of an earlier format is one step. @throws as `add` */
  *steps(section: unknown): Generator<undefined> {
    try {
      if (this.#state !== null) throw new Error('it goes on after its end')
      if (!Array.isArray(section)) this.#takeOld(section)
      else yield* this.#take(section as unknown as StateSection)
    } catch (cause) {
      throw unusable(cause)
    }
  }

  /** The state; it behaves exactly as the one that was saved. @throws ERR_STORAGE when sections are missing */
  finish(): ClusterState {
    if (this.#state === null) throw unusable(new Error('it is truncated'))
    return this.#state
  }

  /** The parsers and tables check everything that the cast in `add` claims. */
  *#take(section: StateSection): Generator<undefined> {
    const [kind, content] = section
    if (kind === 'head') {
      if (this.#head !== null) throw new Error('it has two heads')
      const { format } = content
      if (![UNGATED_FORMAT, SECTION_FORMAT].includes(format)) throw new Error(`format ${String(format)} is not known`)
      this.#head = content
      this.#tables.rules = rulesOf(content)
      this.#tables.restoreVniCursor(content.vniCursor)
      return
    }
    if (this.#head === null) throw new Error('it has no head')
    switch (kind) {
      case 'hosts':
        for (const row of content) this.#addHost(restoreHost(row))
        return
      case 'networks':
        for (const part of content) yield* this.#addPart(part)
        return
      case 'services':
        for (const row of content) this.#tables.addService(parseServiceRow(row), 'explicit')
        return
      case 'policies':
        for (const row of content) this.#tables.addPolicy(parsePolicyRow(row))
        return
      case 'namespaces':
        for (const row of content) {
          const namespace = parseNamespaceRow(row)
          if (this.#tables.namespaces.has(namespace.name)) throw new Error('it holds a namespace twice')
          this.#tables.putNamespace(namespace)
        }
        return
      case 'sessions':
        for (const row of content) {
          restoreSession(this.#sessions, row, this.#head.appliedIndex)
          yield
        }
        return
      case 'end':
        this.#end(this.#head)
        return
      default:
        throw new Error(`a section of kind ${String(kind)} is not known`)
    }
  }

  #takeOld(value: unknown): void {
    if (this.#head !== null) throw new Error('a part of it is not a section')
    this.#state = decodeState(value)
  }

  #addHost(host: Host): void {
    if (this.#tables.hosts.has(host.peerId)) throw new Error('it holds a host twice')
    this.#tables.putHost(host)
    this.#hosts.push(host)
  }

  *#addPart([of, rows]: NetworkPart): Generator<undefined> {
    const tables = this.#tables
    if (typeof of !== 'number') {
      tables.restoreCursor(tables.addNetwork(restoreNetwork(of), 'explicit'), of.cursor)
    }
    const table = tables.networkByVni.get((typeof of === 'number' ? of : of.vni) as Vni)
    if (table === undefined) throw new Error(`endpoints of network ${of as number}, which does not exist`)
    for (const row of rows) {
      tables.addEndpoint(restoreEndpoint(row, table.network, this.#hosts), 'explicit')
      this.#rows += 1
      if (this.#rows % STEP_ROWS === 0) yield
    }
  }

  #end({ appliedIndex, digest }: SectionHead): void {
    const state = new ClusterState({
      tables: this.#tables,
      sessions: this.#sessions,
      appliedIndex: indexOf(appliedIndex)
    })
    // A consistent state may still not be the one that was written.
    if (digestOf(state) !== digest) throw new Error('its digest does not match its contents')
    raiseRules(this.#tables)
    this.#state = state
  }
}

/** @throws Error when they are not those of a cluster that this version knows */
function rulesOf({ format, rules }: SectionHead): number {
  if ((format === SECTION_FORMAT) !== (rules !== undefined))
    throw new Error(`format ${format} with rules ${String(rules)}`)
  return restoreRules(rules)
}

function unusable(cause: unknown): VxmeshError {
  if (cause instanceof VxmeshError && cause.code === 'ERR_STORAGE') return cause
  const why = cause instanceof Error ? cause.message : 'it is malformed'
  return new VxmeshError('ERR_STORAGE', `the snapshot cannot be used: ${why}`, { cause })
}
