// The host's rules for routers, a table for each family. Cached is what is known to be unchanged: nft lists the tables only if
// some program, this agent included, has changed any rule since.

import { FAMILIES, type Family } from '#model/ip.ts'
import { readSysctls } from '#platform/netns.ts'
import { readGeneration, readTable } from '../kernel/generation.ts'
import type { Kernel } from '../kernel/kernel.ts'
import { nextGeneration } from '../netlink/nftables.ts'
import type { ObservedHost, ObservedHostV6 } from '../plan/gateway/plan-gateway.ts'
import { closedIn, HOST_TABLE, noHostRules } from '../plan/gateway/rules.ts'
import { HOST_TABLE_V6, isClosedIn, noHostRulesV6 } from '../plan/gateway/rules-v6.ts'
import { readForwardingV6 } from './forwarding-v6.ts'
import type { RuleWriter } from './rule-writer.ts'

/** Of the kernel's table of connections, where it is not loaded yet: our rules load it. */
const DEFAULT_TABLE_SIZE = 262_144

const TABLES: Readonly<Record<Family, { readonly family: string; readonly name: string }>> = {
  ipv4: { family: 'ip', name: HOST_TABLE },
  ipv6: { family: 'inet', name: HOST_TABLE_V6 }
}

/** What was written, how nft lists it, and what forwards only because of us: the table records that. */
type Table<Closed> = { readonly text: string; readonly listing: string | null; readonly closed: Closed }

type ObservedRules = Pick<ObservedHost, 'ipForward' | 'closed' | 'rules' | 'table' | 'tableSize'> & {
  readonly v6: Omit<ObservedHostV6, 'exits' | 'bridges'>
}

export class HostRules {
  readonly #kernel: Kernel
  readonly #writer: Pick<RuleWriter, 'write'>
  /** Of the namespace's rule set, at the last listing. */
  #generation: number | null = null
  #ipv4: Table<readonly string[]> = { text: '', listing: null, closed: [] }
  #ipv6: Table<boolean> = { text: '', listing: null, closed: false }
  /** See Guard.onWrite. */
  onWrite: (from: number, to: number) => void = () => undefined

  constructor(kernel: Kernel, writer: Pick<RuleWriter, 'write'>) {
    this.#kernel = kernel
    this.#writer = writer
  }

  /** See Gateways.follow. */
  follow(from: number, to: number): void {
    if (this.#generation === from) this.#generation = to
  }

  async observe(): Promise<ObservedRules> {
    const { netns } = this.#kernel
    const generation = readGeneration(netns)
    if (generation === null || generation !== this.#generation) {
      const [ipv4 = null, ipv6 = null] = await Promise.all(FAMILIES.map(family => readTable(netns, TABLES[family])))
      this.#ipv4 = listed(this.#ipv4, ipv4, closedIn)
      this.#ipv6 = listed(this.#ipv6, ipv6, isClosedIn)
      this.#generation = generation
    }
    const [forward, most] = readSysctls(netns, ['net/ipv4/ip_forward', 'net/netfilter/nf_conntrack_max'])
    return {
      ipForward: forward === '1',
      tableSize: Number(most ?? DEFAULT_TABLE_SIZE),
      closed: this.#ipv4.closed,
      ...written(this.#ipv4),
      v6: { ...readForwardingV6(this.#kernel), isClosed: this.#ipv6.closed, ...written(this.#ipv6) }
    }
  }

  /** @throws ERR_KERNEL */
  async set(family: Family, text: string): Promise<void> {
    await this.#write(family, { script: text, text })
  }

  /** @throws ERR_KERNEL */
  async delete(family: Family): Promise<void> {
    await this.#write(family, { script: family === 'ipv4' ? noHostRules() : noHostRulesV6(), text: '' })
  }

  async #write(family: Family, { script, text }: { readonly script: string; readonly text: string }): Promise<void> {
    const { netns } = this.#kernel
    const before = readGeneration(netns)
    await this.#writer.write(netns, script, `write ${TABLES[family].name}`)
    const generation = readGeneration(netns)
    if (before !== null && generation === nextGeneration(before)) this.onWrite(before, generation)
    const listing = await readTable(netns, TABLES[family])
    if (family === 'ipv4') this.#ipv4 = { text, listing, closed: closedIn(listing) }
    else this.#ipv6 = { text, listing, closed: isClosedIn(listing) }
    // If somebody else wrote since the last listing, the other family's table is listed again.
    this.#generation = before !== null && before === this.#generation ? generation : null
  }
}

function written({ text, listing }: Table<unknown>): Pick<ObservedHost, 'rules' | 'table'> {
  return { rules: text === '' ? null : text, table: listing !== null }
}

/** If another program deleted the table, what it recorded is still so. */
function listed<Closed>(
  before: Table<Closed>,
  listing: string | null,
  closed: (listing: string) => Closed
): Table<Closed> {
  const text = listing !== null && listing === before.listing ? before.text : ''
  return { text, listing, closed: listing === null ? before.closed : closed(listing) }
}
