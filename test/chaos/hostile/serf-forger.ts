// Forged messages of Serf's gossip, encrypted with the key that every host of the mesh has (memberlist, security.go and
// net.go: version 1, nonce, AES-256-GCM), and its own tags, which say that it is a server.

import { createCipheriv, randomBytes } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import type { HostName, PeerId } from '#model/ids.ts'
import type { Random } from '../../sim/random.ts'
import { run } from '../../lab/run.ts'

const SERF_PORT = 7946
const [ENCRYPTION_VERSION, NONCE_BYTES] = [1, 12]
const [SUSPECT, ALIVE, DEAD, USER] = [3, 4, 5, 8]
const [LEAVE_INTENT, JOIN_INTENT, USER_EVENT] = [0, 1, 3]
/** memberlist's and Serf's protocol versions of an alive message: minimum, maximum, current of each. */
const VERSIONS = Buffer.from([1, 5, 2, 2, 5, 4])

export type Target = { readonly name: HostName; readonly address: string; readonly peerId: PeerId }

export class SerfForger {
  readonly #key: Uint8Array
  readonly #random: Random
  readonly #socket: Socket = createSocket('udp4')

  constructor(key: Uint8Array, random: Random) {
    this.#key = key
    this.#random = random
  }

  /** Sends one message about a victim to a target: it is suspect, dead, leaving, elsewhere; or noise. */
  send(target: Target, victim: Target): void {
    const random = this.#random
    const [Node, From] = [victim.name, target.name]
    const Incarnation = random.pick([0, 1, 10, 1_000])
    const LTime = random.pick([0, 100, 10_000])
    const Addr = Buffer.from([192, 0, 2, 200 + random.below(50)])
    const message = random.pick([
      [Buffer.from([SUSPECT]), pack({ Incarnation, Node, From })],
      [Buffer.from([DEAD]), pack({ Incarnation, Node, From })],
      [Buffer.from([ALIVE]), pack({ Incarnation, Node, Addr, Port: SERF_PORT, Meta: Buffer.alloc(0), Vsn: VERSIONS })],
      [Buffer.from([USER, LEAVE_INTENT]), pack({ LTime, Node })],
      [Buffer.from([USER, JOIN_INTENT]), pack({ LTime, Node })],
      [Buffer.from([USER, USER_EVENT]), pack({ LTime, Name: 'evil', Payload: 'x' })],
      [randomBytes(random.below(400))]
    ])
    const clear = Buffer.concat(message)
    const packet = random.chance(0.1) ? clear : this.#encrypt(clear)
    this.#socket.send(packet, SERF_PORT, target.address)
  }

  /** Says of this host what it is not. */
  async setTags(): Promise<void> {
    const random = this.#random
    const tags = [`role=${random.pick(['server', 'client'])}`, `expect=${random.below(5)}`, 'vx=1']
    await run('serf', ['tags', ...tags.flatMap(tag => ['-set', tag])])
  }

  async event(): Promise<void> {
    await run('serf', ['event', '-coalesce=false', 'evil', 'x'.repeat(this.#random.below(256))])
  }

  async forceLeave({ name }: Target): Promise<void> {
    await run('serf', ['force-leave', name])
  }

  close(): void {
    this.#socket.close()
  }

  #encrypt(clear: Buffer): Buffer {
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce)
    const sealed = Buffer.concat([cipher.update(clear), cipher.final(), cipher.getAuthTag()])
    return Buffer.concat([Buffer.from([ENCRYPTION_VERSION]), nonce, sealed])
  }
}

/** As Serf's msgpack of before there were types for text and bytes apart. Values: texts below 32 bytes, or numbers. */
function pack(fields: Readonly<Record<string, string | number | Buffer>>): Buffer {
  const raw = (value: string | Buffer): Buffer => {
    const bytes = Buffer.from(value as string)
    return Buffer.concat([Buffer.from([0xa0 | bytes.byteLength]), bytes])
  }
  const number = (value: number): Buffer => {
    const bytes = Buffer.alloc(5)
    bytes[0] = 0xce
    bytes.writeUInt32BE(value, 1)
    return bytes
  }
  const entries = Object.entries(fields)
  const parts = entries.flatMap(([name, value]) => [raw(name), typeof value === 'number' ? number(value) : raw(value)])
  return Buffer.concat([Buffer.from([0x80 | entries.length]), ...parts])
}
