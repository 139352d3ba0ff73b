// Where the peers listen, and whether an address is one of theirs.

import type { PeerId } from '#model/ids.ts'
import { formatIp } from '#model/ip.ts'
import type { PeerAddress } from './mesh-port.ts'

export class PeerAddresses {
  readonly #byPeer = new Map<PeerId, PeerAddress>()
  /** The addresses as text; null after a change. */
  #texts: ReadonlySet<string> | null = null

  get(peer: PeerId): PeerAddress | undefined {
    return this.#byPeer.get(peer)
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
