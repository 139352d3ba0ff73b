// What systemd is told, by the protocol of sd_notify(3): one datagram of `KEY=value` lines to the socket that it names.
// Node has no UNIX datagrams, so it goes by the C library. Without a service manager nothing is sent; one that does not
// listen ends nothing: it acts by its own timeouts.

import { closeSync } from 'node:fs'
import { VxmeshError } from '#model/errors.ts'
import type { Cancel, Clock } from './clock.ts'
import * as libc from './libc.ts'

/** sockaddr_un: the family, then up to 108 bytes. */
const PATH_BYTES = 108
/** Three signs of life in the time after which the service manager takes us for dead. */
const BEATS = 3
const QUIET_BEAT_MS = 10_000

type Environment = Record<string, string | undefined>

export class ServiceManager {
  readonly #clock: Clock
  readonly #address: Uint8Array | null
  /** After how long without a sign of life the service manager acts; null for never. */
  readonly #watchdogMs: number | null
  #fd = -1
  #told = ''
  /** Words that did not get through: they are said again with the next beat. */
  #owed = ''
  #cancelBeat: Cancel | null = null

  private constructor(clock: Clock, address: Uint8Array | null, watchdogMs: number | null) {
    this.#clock = clock
    this.#address = address
    this.#watchdogMs = watchdogMs
  }

  /**
   * Takes what the service manager has put into the environment, and takes it out of it: children are not it.
   * @throws ERR_CONFIG naming NOTIFY_SOCKET when that is no address
   */
  static take(env: Environment, clock: Clock): ServiceManager {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = env
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) Reflect.deleteProperty(env, name)
    const ours = pid === undefined || pid === `${process.pid}`
    const watched = ours && usec !== undefined && /^[1-9][0-9]{0,14}$/.test(usec)
    const watchdogMs = watched ? Number(usec) / 1_000 : null
    return new ServiceManager(clock, socket === undefined ? null : addressOf(socket), watchdogMs)
  }

  ready(): void {
    this.#say('READY=1')
  }

  /** Followed by `ready` when done, whether well or not. */
  reloading(): void {
    this.#say(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1_000n}`)
  }

  stopping(): void {
    this.#cancelBeat?.()
    this.#say('STOPPING=1')
  }

  /** Signs of life from now on while `alive` says so, with `status` for people whenever that has changed. */
  beat(p: { readonly alive: () => boolean; readonly status: () => string }): void {
    if (this.#address === null) return
    const tick = (): void => {
      const status = p.status().replaceAll(/\s+/g, ' ')
      const news = status === this.#told ? [] : [`STATUS=${status}`]
      this.#told = status
      const signs = this.#watchdogMs !== null && p.alive() ? ['WATCHDOG=1'] : []
      if (this.#owed !== '') this.#say(this.#owed)
      if (news.length + signs.length > 0 && !this.#send([...news, ...signs].join('\n'))) this.#told = ''
    }
    tick()
    const everyMs = Math.min((this.#watchdogMs ?? Infinity) / BEATS, QUIET_BEAT_MS)
    this.#cancelBeat = this.#clock.every(everyMs, tick)
  }

  close(): void {
    this.#cancelBeat?.()
    if (this.#fd >= 0) closeSync(this.#fd)
    this.#fd = -1
  }

  #say(text: string): void {
    this.#owed = this.#send(text) ? '' : text
  }

  /** Never waits for room. @returns whether it is under way */
  #send(text: string): boolean {
    if (this.#address === null) return true
    if (this.#fd < 0) this.#fd = libc.socket(libc.AF_UNIX, libc.SOCK_DGRAM_CLOEXEC, 0).value
    if (this.#fd < 0) return false
    const flags = libc.MSG_DONTWAIT | libc.MSG_NOSIGNAL
    return libc.sendTo(this.#fd, { data: Buffer.from(text), flags, address: this.#address }).value >= 0
  }
}

/** A path, or `@name` for an abstract name, which begins with a zero byte and has its length from the address's. */
function addressOf(socket: string): Uint8Array {
  const name = Buffer.from(socket)
  const well = (socket.startsWith('/') || socket.startsWith('@')) && name.length > 1 && name.length < PATH_BYTES
  if (!well || name.includes(0)) {
    const message = 'NOTIFY_SOCKET: must be an absolute path, or @ and an abstract name, of at most 107 bytes'
    throw new VxmeshError('ERR_CONFIG', message, { field: 'NOTIFY_SOCKET' })
  }
  if (name[0] === 0x40) name[0] = 0
  const address = Buffer.alloc(2 + name.length + (name[0] === 0 ? 0 : 1))
  address.writeUInt16LE(libc.AF_UNIX, 0)
  name.copy(address, 2)
  return address
}
