// More requests of one host at once than it takes, while the answer to an earlier one is lost. Each request is either
// refused at once, or carried out once and answered; none ends with its outcome unknown.

import { asVxmeshError } from '#model/errors.ts'
import { parseContainerId, parseIfName, parseNetworkName } from '#model/ids.ts'
import type { ReplicatedLog } from '#replication/ports.ts'
import type { Schedule } from '../schedule.ts'
import type { HostNetwork } from './host-network.ts'
import type { SimHost } from './host.ts'
import type { Oracle } from './oracle.ts'

/** More than a host has in flight. */
const AT_ONCE = 3_000
/** More than the state machine remembers answers of a session. */
const REQUESTS = 6_000

const CONTAINER = { containerId: parseContainerId('flooded'), ifname: parseIfName('eth0') }

export class Flood {
  readonly #log: ReplicatedLog
  readonly #host: SimHost
  readonly #network: HostNetwork
  readonly #oracle: Oracle
  readonly #schedule: Schedule
  #sent = 0
  #rate = 10_000
  #answered = 0
  #refused = 0

  constructor(p: {
    readonly host: SimHost
    readonly log: ReplicatedLog
    readonly network: HostNetwork
    readonly oracle: Oracle
    readonly schedule: Schedule
  }) {
    this.#log = p.log
    this.#host = p.host
    this.#network = p.network
    this.#oracle = p.oracle
    this.#schedule = p.schedule
  }

  get isOver(): boolean {
    return this.#oracle.violation !== null || this.#answered === REQUESTS
  }

  get refused(): number {
    return this.#refused
  }

  async run(): Promise<void> {
    const network = parseNetworkName('net')
    const facts = { name: '', ingressRate: 0, egressRate: 0, delayUs: 0 }
    await this.#log.propose({ kind: 'endpoint-attach', network, host: this.#host.peerId, ...CONTAINER, ...facts })
    this.#network.loseAnswer(this.#host.peerId)
    this.#send()
    // The answer that is lost is that of the first request alone.
    this.#schedule.after(100, () => {
      for (let n = 0; n < AT_ONCE; n++) this.#send()
    })
  }

  #send(): void {
    if (this.#sent === REQUESTS) return
    this.#sent += 1
    this.#rate += 1
    const [rate, sentMs] = [this.#rate, this.#schedule.nowMs]
    this.#log.propose({ kind: 'endpoint-update', ...CONTAINER, egressRate: rate }).then(
      ({ result }) => {
        if (result.endpoint.egressRate !== rate) this.#oracle.fail(`a request of many got the answer of another one`)
        this.#answered += 1
        this.#send()
      },
      (err: unknown) => this.#failed(asVxmeshError(err), sentMs)
    )
  }

  #failed({ code, message }: { readonly code: string; readonly message: string }, sentMs: number): void {
    if (code !== 'ERR_BUSY') this.#oracle.fail(`a request of many ends with ${code}: ${message}`)
    else if (this.#schedule.nowMs !== sentMs) this.#oracle.fail('a request of many is refused late')
    this.#refused += 1
    this.#sent -= 1
  }
}
