// What the guard asks of a namespace's kernel: nft installs and lists whole tables, netlink changes single elements.

import { VxmeshError } from '#model/errors.ts'
import type { NetlinkRefusal } from '#platform/netlink-error.ts'
import { NetlinkSocket } from '#platform/netlink-socket.ts'
import { requestGeneration } from '../kernel/generation.ts'
import { listTable, runNft, type Netns } from '../kernel/nft.ts'
import {
  addSetElement,
  beginBatch,
  decodeCounter,
  deleteSetElement,
  endBatch,
  getCounters,
  NEW_OBJECT,
  NFNETLINK
} from '../netlink/nftables.ts'
import { parseListing, type ObservedTable } from '../plan/filter/listing.ts'
import { installScript, type FilterOp, type TableInstall } from '../plan/filter/plan-filter.ts'
import type { FilterTable } from '../plan/filter/ruleset.ts'

export type ElementOp = Exclude<FilterOp, TableInstall>

export type FilterKernel = {
  /** Netlink port id of its writes; notifications of them carry it. */
  readonly portId: number
  /** The generation of the rule set; grows with each change of any table. @throws ERR_KERNEL */
  generation(): number
  /** Null also for a table that cannot be read: reinstalling it then reports the error. */
  list(table: FilterTable): Promise<ObservedTable | null>
  /** In one transaction. @throws ERR_KERNEL */
  install(installs: readonly TableInstall[]): Promise<void>
  /** In one transaction, which is refused when the rule set is not of this generation. @throws ERR_KERNEL */
  write(generation: number, ops: readonly ElementOp[]): Pick<NetlinkRefusal, 'message'> | null
  /** Packets that the named counters of a table have counted since it was installed. @throws ERR_KERNEL */
  counters(table: FilterTable): ReadonlyMap<string, number>
  close(): void
}

export class NftKernel implements FilterKernel {
  readonly #netns: Netns
  readonly #socket: NetlinkSocket

  /** @throws ERR_NETNS, ERR_KERNEL */
  constructor(netns: Netns) {
    this.#netns = netns
    this.#socket = NetlinkSocket.open(netns, [], NFNETLINK)
  }

  get portId(): number {
    return this.#socket.portId
  }

  generation(): number {
    const generation = requestGeneration(this.#socket)
    if (generation === null) throw new VxmeshError('ERR_KERNEL', 'the rule set has no generation')
    return generation
  }

  async list(table: FilterTable): Promise<ObservedTable | null> {
    try {
      return parseListing(table, await listTable(this.#netns, table))
    } catch {
      return null
    }
  }

  async install(installs: readonly TableInstall[]): Promise<void> {
    const script = installs.map(({ table, elements }) => installScript(table, elements)).join('')
    await runNft(this.#netns, script, 'install the filters')
  }

  write(generation: number, ops: readonly ElementOp[]): NetlinkRefusal | null {
    const messages = ops.map(({ kind, table, element }) =>
      (kind === 'element-add' ? addSetElement : deleteSetElement)({ ...table, set: element.set }, element.key)
    )
    return this.#socket.transaction([beginBatch(generation), ...messages, endBatch()], 'change filter sets')
  }

  counters(table: FilterTable): ReadonlyMap<string, number> {
    const decode = (type: number, payload: Uint8Array): readonly [string, number] | undefined => {
      const counter = type === NEW_OBJECT ? decodeCounter(table, payload) : null
      return counter === null ? undefined : [counter.name, counter.packets]
    }
    return new Map(this.#socket.dump(getCounters(table), decode, `read the counters of ${table.family} ${table.name}`))
  }

  close(): void {
    this.#socket.close()
  }
}
