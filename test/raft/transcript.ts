// Runs a transcript: a text file of comments (#), directives (>) and the lines that they produce. Running the
// directives rewrites the file; a difference means that the core behaves differently. transcripts/README.txt lists the
// directives.

import type { PeerId } from '#model/ids.ts'
import type { Change, Message, MessageKind, RaftEvent } from '#raft/types.ts'
import { Cluster, type Server } from './cluster.ts'
import { effectLine, isHeartbeat, messageLine, stateLine, writeLines } from './transcript-lines.ts'

type Arguments = { readonly words: readonly string[]; readonly named: Readonly<Record<string, string>> }

/** @returns the whole file as it should be */
export function runTranscript(source: string): string {
  const run = new TranscriptRun()
  const output: string[] = []
  for (const line of source.split('\n')) {
    if (line.startsWith('#')) output.push(line)
    if (line === '' && output.at(-1) !== '') output.push('')
    if (line.startsWith('> ')) output.push(line, ...run.run(line.slice(2)).map(text => `  ${text}`))
  }
  return `${output.join('\n').trim()}\n`
}

class TranscriptRun {
  #cluster: Cluster | null = null
  #lines: string[] = []
  readonly #heartbeats = { delivered: 0, lost: 0 }
  #isQuiet = false

  /** @returns what the directive produces */
  run(directive: string): readonly string[] {
    this.#lines = []
    const { words, named } = parse(directive)
    const [verb = '', ...rest] = words
    if (verb === 'cluster') this.#begin({ words: rest, named })
    else this.#perform(verb, { words: rest, named })
    this.#flushHeartbeats()
    return this.#lines
  }

  #begin({ words, named }: Arguments): void {
    const observer = {
      effect: (server: Server, effect: Parameters<typeof effectLine>[0]): void => {
        const line = effectLine(effect)
        if (line !== null) this.#add(`${server.id} ${line}`)
      },
      written: (server: Server, batch: Parameters<typeof writeLines>[0]): void => {
        for (const line of writeLines(batch)) this.#add(`${server.id} has on disk: ${line}`)
      },
      delivered: (message: Message): void => this.#message(message, '->'),
      lost: (message: Message): void => this.#message(message, '-x')
    }
    const founders = named['founders']?.split(',') ?? words
    const options = named['chunk'] === undefined ? {} : { maxChunkBytes: Number(named['chunk']) }
    this.#cluster = new Cluster(words, { founders, options, observer })
  }

  #perform(verb: string, { words, named }: Arguments): void {
    const cluster = this.#cluster
    if (cluster === null) throw new Error('a transcript begins with a cluster')
    const [first = '', second = '', third = ''] = words
    const server = (): Server => cluster.at(first)
    switch (verb) {
      case 'elect':
        this.#isQuiet = true
        cluster.elect(first)
        cluster.advance(200)
        this.#isQuiet = false
        this.#add(`${first} is leader of term ${server().state.term}, and all others follow it (see election.txt)`)
        return
      case 'tick':
        for (const id of words.slice(1)) cluster.at(id).advance(Number(first))
        return
      case 'run':
        cluster.advance(Number(first), ...words.slice(1))
        return
      case 'silence':
        for (const id of words.slice(1)) cluster.at(id).stall(Number(first))
        return
      case 'deliver':
        cluster.deliver(...cluster.take(selection(named)))
        return
      case 'lose':
        for (const message of cluster.take(selection(named))) this.#message(message, '-x')
        return
      case 'settle':
        cluster.settle(...words)
        return
      case 'hold-disk':
        server().holdDisk = true
        return
      case 'release-disk':
        server().holdDisk = false
        server().sync()
        return
      case 'restart':
        server().restart()
        return
      case 'wipe':
        server().wipe(Number(second))
        return
      case 'lose-tail':
        server().loseTail(Number(second))
        return
      case 'snapshot':
        server().takeSnapshot(second)
        return
      case 'show':
        for (const each of Object.values(cluster.servers)) this.#add(`${each.id} ${stateLine(each)}`)
        return
      default:
        server().handle(eventOf(verb, second, third))
    }
  }

  #message(message: Message, arrow: '->' | '-x'): void {
    const receiver = this.#cluster?.at(message.to)
    if (receiver === undefined || this.#isQuiet) return
    const isLost = arrow === '-x'
    if (isLost && message.kind === 'append-request' && message.entries.length === 0) this.#heartbeats.lost += 1
    else if (isHeartbeat(message, receiver)) this.#heartbeats[isLost ? 'lost' : 'delivered'] += 1
    else this.#add(`${message.from} ${arrow} ${message.to}  ${messageLine(message)}`)
  }

  #add(line: string): void {
    if (this.#isQuiet) return
    this.#flushHeartbeats()
    this.#lines.push(line)
  }

  #flushHeartbeats(): void {
    for (const what of ['delivered', 'lost'] as const) {
      const count = this.#heartbeats[what]
      if (count > 0) this.#lines.push(`(heartbeats and replies ${what}: ${count})`)
      this.#heartbeats[what] = 0
    }
  }
}

function eventOf(verb: string, second: string, third: string): RaftEvent {
  const peer = second as PeerId
  const change = (wanted: Change): RaftEvent => ({ kind: 'change', id: 1, change: wanted })
  switch (verb) {
    case 'propose':
      return { kind: 'propose', id: 1, batch: [Buffer.from(second)] }
    case 'read':
      return { kind: 'read', id: Number(second) }
    case 'transfer':
      return { kind: 'transfer', to: peer }
    case 'peer-lost':
      return { kind: 'peer-lost', peer }
    case 'add':
      return change({ kind: 'add-learner', peer, incarnation: Number(third) })
    case 'promote':
    case 'remove':
      return change({ kind: verb, peer })
    default:
      throw new Error(`no directive is named ${verb}`)
  }
}

function selection({ from, to, kind }: Readonly<Record<string, string>>): Parameters<Cluster['take']>[0] {
  return {
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(kind === undefined ? {} : { kind: kind as MessageKind })
  }
}

/** Words, quoted texts and `name=value`. */
function parse(directive: string): Arguments {
  const words: string[] = []
  const named: Record<string, string> = {}
  for (const [, quoted, name, value, word] of directive.matchAll(/"([^"]*)"|([a-z]+)=(\S+)|(\S+)/g)) {
    if (quoted !== undefined) words.push(quoted)
    else if (name !== undefined && value !== undefined) named[name] = value
    else if (word !== undefined) words.push(word)
  }
  return { words, named }
}
