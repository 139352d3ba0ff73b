// A fake Serf: the RPC commands that the client uses, and a script that may override any reply.

import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { encodeMsgpack, msgpackValueStream } from '#platform/msgpack.ts'

export type Request = { readonly Command: string; readonly Seq: number }

/** Handles a request on its socket, or returns false for the default reply. */
export type Script = (request: Request, socket: Socket) => boolean

/** Requests with a body. */
const WITH_BODY = ['handshake', 'join', 'tags', 'monitor', 'members-filtered']

export class FakeSerf {
  readonly server: Server
  readonly sockets = new Set<Socket>()
  /** Connections in total, and the maximum at one time. */
  readonly count = { opened: 0, atOnce: 0 }

  private constructor(script: Script, members: readonly unknown[]) {
    this.server = createServer(socket => {
      this.sockets.add(socket)
      this.count.opened += 1
      this.count.atOnce = Math.max(this.count.atOnce, this.sockets.size)
      socket.on('close', () => this.sockets.delete(socket))
      socket.on('error', () => undefined)
      const values = msgpackValueStream()
      let body = false
      values.on('data', (value: Request) => {
        if (body) body = false
        else {
          body = WITH_BODY.includes(value.Command)
          if (!script(value, socket)) reply(value, socket, members)
        }
      })
      socket.pipe(values)
    })
  }

  static async listen(script: Script, p: { port?: number; members?: readonly unknown[] } = {}): Promise<FakeSerf> {
    const fake = new FakeSerf(script, p.members ?? [])
    await new Promise<void>(resolve => fake.server.listen(p.port ?? 0, '127.0.0.1', resolve))
    return fake
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    await new Promise(resolve => this.server.close(resolve))
  }
}

/** Replies as Serf does. */
export function reply({ Command, Seq }: Request, socket: Socket, members: readonly unknown[] = []): void {
  socket.write(encodeMsgpack({ Seq, Error: '' }))
  if (Command === 'members') socket.write(encodeMsgpack({ Members: members }))
  if (Command === 'join') socket.write(encodeMsgpack({ Num: 1 }))
  if (Command === 'stats') socket.write(encodeMsgpack({ agent: { name: 'fake' } }))
}
