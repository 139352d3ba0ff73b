// A host whose root is the attacker: its agent is killed, its Serf runs on with the tags that the attacker likes, and a
// program speaks with its identity (hostile.ts).

import { join } from 'node:path'
import type { ErrorCode } from '#model/errors.ts'
import type { Command } from '#model/command.ts'
import type { LabHost } from '../lab/host.ts'
import { JsonProcess } from '../lab/json-process.ts'
import type { Question } from './hostile.ts'
import type { World } from './world.ts'

const SCRIPT = join(import.meta.dirname, 'hostile.ts')

/** What a proposal came to: `ok`, or the code of its refusal. */
export type Answer = 'ok' | ErrorCode | 'no answer'

export class Stolen {
  readonly host: LabHost
  readonly peerId: string
  readonly #process: JsonProcess
  readonly #peers: ReadonlyMap<string, string>
  readonly #seqs = new Map<string, number>()

  private constructor(p: { host: LabHost; peerId: string; process: JsonProcess; peers: ReadonlyMap<string, string> }) {
    this.host = p.host
    this.peerId = p.peerId
    this.#process = p.process
    this.#peers = p.peers
  }

  static async steal(world: World, host: LabHost): Promise<Stolen> {
    const all = await Promise.all(world.members.map(async other => ({ other, status: await other.status() })))
    const own = all.find(({ other }) => other === host)?.status
    if (own?.cluster === undefined || own.cluster === null) throw new Error('no cluster')
    const others = all.filter(({ other }) => other !== host)
    await host.killAgent()
    await host.exec('serf', 'tags', '-set', 'role=server')
    const addresses = Object.fromEntries(others.map(({ other, status }) => [status.peerId, other.address]))
    const args = [join(host.dir, 'data'), world.lab.keyFile, host.address, own.cluster, JSON.stringify(addresses)]
    const process = await JsonProcess.start(host.namespace, SCRIPT, args)
    const peers = new Map(others.map(({ other, status }) => [other.name, status.peerId]))
    const stolen = new Stolen({ host, peerId: own.peerId, process, peers })
    await stolen.ask({ kind: 'connect', peers: [...peers.values()] })
    return stolen
  }

  async ask(question: Question): Promise<unknown> {
    return this.#process.ask(question)
  }

  peer(host: LabHost): string {
    const peer = this.#peers.get(host.name)
    if (peer === undefined) throw new Error(`no ${host.name}`)
    return peer
  }

  /** Proposes in a session of its own, which it opens first. */
  async propose(leader: LabHost, command: Command, session = 'stolen'): Promise<Answer> {
    const seq = this.#seqs.get(session) ?? 0
    this.#seqs.set(session, seq + 1)
    const request = { session, seq, settledBelow: 0, command, by: this.peer(leader) }
    const answer = await this.ask({ kind: 'propose', peer: this.peer(leader), request })
    const { error, applied } = answer as {
      readonly error?: ErrorCode
      readonly applied?: { readonly outcome: { readonly ok: boolean; readonly error?: { readonly code: ErrorCode } } }
    }
    if (error !== undefined) return error
    return applied?.outcome.ok === true ? 'ok' : (applied?.outcome.error?.code ?? 'no answer')
  }

  /** The host is its owner's again. */
  async giveBack(): Promise<void> {
    await this.#process.stop()
    await this.host.startAgent()
    await this.host.waitReady(60_000)
  }
}
