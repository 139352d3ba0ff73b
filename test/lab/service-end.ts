// The ends of connections to a service, each a process in a container: a backend that says who it is, by TCP and UDP on one port, and a
// client that connects, holds connections, and tells who answered.

import { createSocket } from 'node:dgram'
import { connect, createServer, type Socket } from 'node:net'
import { argv } from 'node:process'
import { fileURLToPath } from 'node:url'
import { answerLines, JsonProcess } from './json-process.ts'

const ANSWER_MS = 2_000

type Namespace = { readonly namespace: string }

/** Who answered, from which address the client came as it saw it, and how many bytes it got; or an error code, or `timeout`. */
export type Answer = string

type Question =
  | {
      readonly kind: 'tcp' | 'udp'
      readonly address: string
      readonly port: number
      readonly bytes: number
      readonly from?: number
    }
  | { readonly kind: 'open'; readonly address: string; readonly port: number }
  | { readonly kind: 'say'; readonly id: number; readonly bytes: number }

export class ServiceEnd {
  readonly #process: JsonProcess

  private constructor(process: JsonProcess) {
    this.#process = process
  }

  static async serve({ namespace }: Namespace, name: string, port: number): Promise<ServiceEnd> {
    return new ServiceEnd(
      await JsonProcess.start(namespace, fileURLToPath(import.meta.url), ['serve', name, `${port}`])
    )
  }

  static async client({ namespace }: Namespace): Promise<ServiceEnd> {
    return new ServiceEnd(await JsonProcess.start(namespace, fileURLToPath(import.meta.url), ['client']))
  }

  /** One connection, or one datagram of a socket of its own. @param to.from the port of that socket */
  async ask(kind: 'tcp' | 'udp', to: { address: string; port: number; from?: number }, bytes = 10): Promise<Answer> {
    return (await this.#process.ask({ kind, ...to, bytes })) as Answer
  }

  /** Opens a connection. @returns its id for `say`, or an error code */
  async open(to: { address: string; port: number }): Promise<number | string> {
    return (await this.#process.ask({ kind: 'open', ...to })) as number | string
  }

  async say(id: number, bytes = 10): Promise<Answer> {
    return (await this.#process.ask({ kind: 'say', id, bytes })) as Answer
  }

  /** kill -9: the container's stack ends its connections. */
  kill(): Promise<void> {
    process.kill(this.#process.pid, 'SIGKILL')
    return this.stop()
  }

  stop(): Promise<void> {
    return this.#process.stop()
  }
}

async function serve(name: string, port: number): Promise<void> {
  const answer = (from: string | undefined, bytes: number): string =>
    `${name} ${(from ?? '').replace('::ffff:', '')} ${bytes}`
  const server = createServer(socket => {
    let bytes = 0
    socket.on('error', () => undefined)
    socket.on('data', data => {
      bytes += data.length
      if (data.at(-1) !== 10) return
      socket.write(`${answer(socket.remoteAddress, bytes)}\n`)
      bytes = 0
    })
  })
  await new Promise<void>(resolve => server.listen(port, '::', resolve))
  const datagrams = createSocket('udp6')
  datagrams.on('message', (data, from) => datagrams.send(answer(from.address, data.length), from.port, from.address))
  await new Promise<void>(resolve => datagrams.bind(port, '::', resolve))
  await answerLines(async () => Promise.resolve(null))
  process.exit()
}

function opened(address: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, address, () => resolve(socket))
    socket.setTimeout(ANSWER_MS, () => reject(Object.assign(new Error('no answer'), { code: 'timeout' })))
    socket.on('error', reject)
  })
}

function said(socket: Socket, bytes: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const timer = setTimeout(() => resolve('timeout'), ANSWER_MS)
    const failed = (err: Error): void => reject(err)
    socket.once('error', failed)
    socket.on('data', function take(data: Buffer) {
      text += data.toString()
      if (!text.endsWith('\n')) return
      clearTimeout(timer)
      socket.off('data', take)
      socket.off('error', failed)
      resolve(text.trim())
    })
    socket.write(`${'x'.repeat(bytes - 1)}\n`)
  })
}

function sent({ address, port, bytes, from }: Extract<Question, { bytes: number; port: number }>): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
    const timer = setTimeout(() => resolve('timeout'), ANSWER_MS)
    const done = (text: string): void => {
      clearTimeout(timer)
      socket.close()
      resolve(text)
    }
    socket.on('error', err => done((err as NodeJS.ErrnoException).code ?? err.message))
    // Of a socket that is connected, an answer from anywhere else would not arrive.
    socket.on('message', data => done(data.toString()))
    const bound = (use: () => void): unknown => (from === undefined ? process.nextTick(use) : socket.bind(from, use))
    bound(() =>
      socket.connect(port, address, () =>
        socket.send('x'.repeat(bytes), err => (err === null ? undefined : reject(err)))
      )
    )
  })
}

async function client(): Promise<void> {
  const held: Socket[] = []
  const heldAt = (id: number): Socket => {
    const socket = held[id]
    if (socket === undefined) throw new Error(`no connection ${id}`)
    return socket
  }
  await answerLines(async question => {
    const asked = question as Question
    try {
      if (asked.kind === 'udp') return await sent(asked)
      if (asked.kind === 'say') return await said(heldAt(asked.id), asked.bytes)
      const socket = await opened(asked.address, asked.port)
      if (asked.kind === 'open') {
        socket.setTimeout(0)
        return held.push(socket) - 1
      }
      const answer = await said(socket, asked.bytes)
      socket.destroy()
      return answer
    } catch (err) {
      return (err as NodeJS.ErrnoException).code ?? String(err)
    }
  })
  process.exit()
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const [, , mode, name = '', port = ''] = argv
  await (mode === 'serve' ? serve(name, Number(port)) : client())
}
