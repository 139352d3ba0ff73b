// Load on a service from one container, a process of its own. Lanes connect to it from ports of their own, again and again or with one
// connection that they hold. The client's address and port choose the backend (docs/adr/0065), so a lane stays with its backend as long as
// the backends stay the same: whom a connection that fails was led to is known from the answer before it.

import { connect, type Socket } from 'node:net'
import { argv } from 'node:process'
import { setTimeout as after } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { answerLines, JsonProcess } from './json-process.ts'

/** Long enough for an overloaded machine: what takes longer has failed. */
const ANSWER_MS = 10_000
const PAUSE_MS = 300
const FIRST_PORT = 20_000

export type Load = {
  /** Of the service; each gets all the lanes. */
  readonly addresses: readonly string[]
  readonly port: number
  readonly short: number
  /** Lanes that hold their connection, and ask on it again and again. */
  readonly held: number
}

/** A connection that got no answer. */
export type Failure = {
  readonly kind: 'short' | 'held'
  readonly address: string
  readonly from: number
  /** Who answered the lane before; null: nobody yet. */
  readonly backend: string | null
  /** An error code, or `timeout`. */
  readonly code: string
}

/** What happened since the report before. */
export type LoadReport = {
  readonly answers: number
  readonly failures: readonly Failure[]
  /** For each address, who answered its lanes last, each once. */
  readonly backends: Readonly<Record<string, readonly string[]>>
}

export class ServiceLoad {
  readonly #process: JsonProcess

  private constructor(process: JsonProcess) {
    this.#process = process
  }

  static async start({ namespace }: { readonly namespace: string }, load: Load): Promise<ServiceLoad> {
    return new ServiceLoad(await JsonProcess.start(namespace, fileURLToPath(import.meta.url), [JSON.stringify(load)]))
  }

  /** After each lane has had a turn from begin to end. @param except does not wait for lanes of these backends */
  async round(except: readonly string[] = []): Promise<LoadReport> {
    return (await this.#process.ask({ except })) as LoadReport
  }

  stop(): Promise<void> {
    return this.#process.stop()
  }
}

class Lane {
  readonly kind: Failure['kind']
  readonly address: string
  readonly #port: number
  readonly #from: number
  #socket: Socket | null = null
  backend: string | null = null
  answers = 0
  failures: Failure[] = []
  /** Turns that have begun and that have ended. */
  begun = 0
  ended = 0

  constructor(p: { kind: Failure['kind']; address: string; port: number; from: number }) {
    this.kind = p.kind
    this.address = p.address
    this.#port = p.port
    this.#from = p.from
  }

  async run(): Promise<never> {
    await after(Math.random() * PAUSE_MS)
    for (;;) {
      this.begun += 1
      await this.#turn()
      this.ended += 1
      await after(PAUSE_MS)
    }
  }

  async #turn(): Promise<void> {
    try {
      this.#socket ??= await opened(this.address, this.#port, this.#from)
      const answer = await said(this.#socket)
      this.backend = answer.split(' ')[0] ?? null
      this.answers += 1
      if (this.kind === 'short') this.#end()
    } catch (err) {
      const { code = String(err) } = err as NodeJS.ErrnoException
      const { kind, address, backend } = this
      this.failures.push({ kind, address, backend, code, from: this.#from })
      this.#end()
    }
  }

  /** A reset leaves neither side with a connection that keeps the port. */
  #end(): void {
    this.#socket?.resetAndDestroy()
    this.#socket = null
  }
}

function opened(host: string, port: number, localPort: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, localPort })
    const timer = setTimeout(() => socket.destroy(timedOut()), ANSWER_MS)
    socket.on('error', err => {
      clearTimeout(timer)
      reject(err)
    })
    socket.on('connect', () => {
      clearTimeout(timer)
      resolve(socket)
    })
  })
}

function said(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const done = (end: () => void): void => {
      clearTimeout(timer)
      socket.off('data', take).off('error', failed).off('close', closed)
      end()
    }
    const timer = setTimeout(() => failed(timedOut()), ANSWER_MS)
    const failed = (err: Error): void => done(() => reject(err))
    const closed = (): void => failed(Object.assign(new Error('closed'), { code: 'closed' }))
    function take(data: Buffer): void {
      text += data.toString()
      if (text.endsWith('\n')) done(() => resolve(text.trim()))
    }
    socket.on('data', take).on('error', failed).on('close', closed)
    if (socket.destroyed) closed()
    else socket.write('x\n')
  })
}

function timedOut(): Error {
  return Object.assign(new Error('no answer'), { code: 'timeout' })
}

async function main({ addresses, port, short, held }: Load): Promise<void> {
  const kinds = [...Array<'short'>(short).fill('short'), ...Array<'held'>(held).fill('held')]
  const lanes = addresses
    .flatMap(address => kinds.map(kind => ({ kind, address })))
    .map((lane, n) => new Lane({ ...lane, port, from: FIRST_PORT + n }))
  for (const lane of lanes) void lane.run()
  await answerLines(async question => {
    const { except } = question as { readonly except: readonly string[] }
    await Promise.all(lanes.map(lane => turn(lane, except)))
    const report: LoadReport = {
      answers: lanes.reduce((sum, lane) => sum + lane.answers, 0),
      failures: lanes.flatMap(lane => lane.failures),
      backends: Object.fromEntries(
        addresses.map(address => [
          address,
          [...new Set(lanes.flatMap(lane => (lane.address === address ? [lane.backend ?? ''] : [])))].sort()
        ])
      )
    }
    for (const lane of lanes) [lane.answers, lane.failures] = [0, []]
    return report
  })
  process.exit()
}

/** Resolves once a turn that begins from now on has ended. */
async function turn(lane: Lane, except: readonly string[]): Promise<void> {
  const wanted = lane.begun + 1
  while (lane.ended < wanted && !except.includes(lane.backend ?? '')) await after(10)
}

if (argv[1] === fileURLToPath(import.meta.url)) await main(JSON.parse(argv[2] ?? '') as Load)
