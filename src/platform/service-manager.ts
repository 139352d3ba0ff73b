// Notifies systemd with the protocol of sd_notify(3): datagrams of `KEY=value` lines to the socket that it names. Uses the
// C library, since Node has no UNIX datagram sockets. Without a service manager nothing is sent. A send that fails is
// retried, and never an error.

import { closeSync } from 'node:fs'
import { VxmeshError } from '#model/errors.ts'
import type { Cancel, Clock } from './clock.ts'
import * as libc from './libc.ts'

/** sockaddr_un: the family, then up to 108 bytes. */
const PATH_BYTES = 108
/** Keep-alives per watchdog timeout. */
const BEATS = 3
/** Interval of status updates without a watchdog. */
const STATUS_MS = 10_000

type Environment = Record<string, string | undefined>

export class ServiceManager {
  readonly #clock: Clock
  readonly #address: Uint8Array | null
  /** Watchdog timeout; null without a watchdog. */
  readonly #watchdogMs: number | null
  #fd = -1
  #sentStatus = ''
  /** The state that could not be sent; retried with the next beat. */
  #unsent = ''
  #cancelBeat: Cancel | null = null

  private constructor(clock: Clock, address: Uint8Array | null, watchdogMs: number | null) {
    this.#clock = clock
    this.#address = address
    this.#watchdogMs = watchdogMs
  }

  /**
   * Reads the service manager's variables and removes them from the environment, so that children do not inherit them.
   * @throws ERR_CONFIG naming NOTIFY_SOCKET when it is not a valid address
   */
  static take(env: Environment, clock: Clock): ServiceManager {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = env
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) Reflect.deleteProperty(env, name)
    const isOurs = pid === undefined || pid === `${process.pid}`
    const watched = isOurs && usec !== undefined && /^[1-9][0-9]{0,14}$/.test(usec)
    const watchdogMs = watched ? Number(usec) / 1_000 : null
    return new ServiceManager(clock, socket === undefined ? null : addressOf(socket), watchdogMs)
  }

  ready(): void {
    this.#sendState('READY=1')
  }

  /** Must be followed by `ready`, whether the reload succeeded or not. */
  reloading(): void {
    this.#sendState(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1_000n}`)
  }

  stopping(): void {
    this.#cancelBeat?.()
    this.#sendState('STOPPING=1')
  }

  /** Starts sending keep-alives while `alive` returns true, and `status` whenever it changes. */
  beat(p: { readonly alive: () => boolean; readonly status: () => string }): void {
    if (this.#address === null) return
    const tick = (): void => {
      const status = p.status().replaceAll(/\s+/g, ' ')
      const statusLines = status === this.#sentStatus ? [] : [`STATUS=${status}`]
      this.#sentStatus = status
      const keepAlive = this.#watchdogMs !== null && p.alive() ? ['WATCHDOG=1'] : []
      if (this.#unsent !== '') this.#sendState(this.#unsent)
      if (statusLines.length + keepAlive.length > 0 && !this.#send([...statusLines, ...keepAlive].join('\n')))
        this.#sentStatus = ''
    }
    tick()
    const everyMs = Math.min((this.#watchdogMs ?? Infinity) / BEATS, STATUS_MS)
    this.#cancelBeat = this.#clock.every(everyMs, tick)
  }

  close(): void {
    this.#cancelBeat?.()
    if (this.#fd >= 0) closeSync(this.#fd)
    this.#fd = -1
  }

  #sendState(text: string): void {
    this.#unsent = this.#send(text) ? '' : text
  }

  /** Never blocks. @returns whether the datagram was sent */
  #send(text: string): boolean {
    if (this.#address === null) return true
    if (this.#fd < 0) this.#fd = libc.socket(libc.AF_UNIX, libc.SOCK_DGRAM_CLOEXEC, 0).value
    if (this.#fd < 0) return false
    const flags = libc.MSG_DONTWAIT | libc.MSG_NOSIGNAL
    return libc.sendTo(this.#fd, { data: Buffer.from(text), flags, address: this.#address }).value >= 0
  }
}

/** Encodes a path, or `@name` for an abstract name, which starts with a zero byte and is not zero-terminated. */
function addressOf(socket: string): Uint8Array {
  const name = Buffer.from(socket)
  const isValid = (socket.startsWith('/') || socket.startsWith('@')) && name.length > 1 && name.length < PATH_BYTES
  if (!isValid || name.includes(0)) {
    const message = 'NOTIFY_SOCKET: must be an absolute path, or @ and an abstract name, of at most 107 bytes'
    throw new VxmeshError('ERR_CONFIG', message, { field: 'NOTIFY_SOCKET' })
  }
  if (name[0] === 0x40) name[0] = 0
  const address = Buffer.alloc(2 + name.length + (name[0] === 0 ? 0 : 1))
  address.writeUInt16LE(libc.AF_UNIX, 0)
  name.copy(address, 2)
  return address
}
