// Where the peers listen, and whether an address is one of theirs.

import { VxmeshError } from '#model/errors.ts'
import type { PeerId } from '#model/ids.ts'
import { formatIp, isIpv4, parseIp, type Ip } from '#model/ip.ts'
import type { PeerAddress } from './mesh-port.ts'

export class PeerAddresses {
  readonly #bind: Ip
  readonly #byPeer = new Map<PeerId, PeerAddress>()
  /** The addresses as text; null after a change. */
  #texts: ReadonlySet<string> | null = null

  /** @param bind this host's own address */
  constructor(bind: Ip) {
    this.#bind = bind
  }

  /** Where to dial a peer. @throws ERR_PEER when that is not known, or is of another family than this host's address */
  to(peer: PeerId): PeerAddress {
    const at = this.#byPeer.get(peer)
    if (at === undefined) throw new VxmeshError('ERR_PEER', `no address is known for peer ${peer}`)
    if (isIpv4(at.address) === isIpv4(this.#bind)) return at
    const [theirs, ours] = [formatIp(at.address), formatIp(this.#bind)]
    const what = `is at ${theirs}, which cannot be reached from ${ours}: hosts of a cluster have addresses of one family`
    throw new VxmeshError('ERR_PEER', `peer ${peer} ${what}`)
  }

  set(peer: PeerId, address: PeerAddress): void {
    if (this.#byPeer.get(peer)?.address !== address.address) this.#texts = null
    this.#byPeer.set(peer, address)
  }

  has(address: string): boolean {
    this.#texts ??= new Set([...this.#byPeer.values()].map(at => formatIp(at.address)))
    return this.#texts.has(address)
  }
}

/**
 * The addresses that sockets have reported, as text. Those with a zone are valid on one link only: they are no host's, and
 * left out.
 */
export function reportedIps(texts: readonly string[]): readonly Ip[] {
  return [...new Set(texts)].filter(text => text !== '' && !text.includes('%')).map(text => parseIp(text))
}
