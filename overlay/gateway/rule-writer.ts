// Writes the rules of routers and of the host. A kernel without NF_CONNTRACK_TIMEOUT refuses rules with timeouts of their own:
// there they are written without these, and all other limits hold.

import { asVxmeshError } from '#model/errors.ts'
import { withScratchNetns } from '#platform/netns.ts'
import type { Feature } from '../driver.ts'
import { runNft, type Netns } from '../kernel/nft.ts'
import { withoutTimeouts } from '../plan/gateway/limits.ts'
import { timeoutsAlone } from '../plan/gateway/rules.ts'

type Nft = typeof runNft

/** Why this kernel, or this nft, takes no timeouts; null if it does. */
type Probe = () => Promise<string | null>

export class RuleWriter {
  readonly #nft: Nft
  readonly #probe: Probe
  #refusal: string | null = null

  constructor(p: { readonly nft?: Nft; readonly probe?: Probe } = {}) {
    this.#nft = p.nft ?? runNft
    this.#probe = p.probe ?? probeTimeouts
  }

  /** The script is one transaction. @throws ERR_KERNEL */
  async write(netns: Netns, script: string, doing: string): Promise<void> {
    if (this.#refusal !== null) {
      await this.#nft(netns, withoutTimeouts(script), doing)
      return
    }
    try {
      await this.#nft(netns, script, doing)
    } catch (err) {
      this.#refusal = await this.#probe()
      if (this.#refusal === null) throw err
      await this.#nft(netns, withoutTimeouts(script), doing)
    }
  }

  /** For `doctor`. Takes some 25 ms. */
  async feature(): Promise<Feature> {
    const refusal = await this.#probe()
    const without = 'half-open connections of containers last as long as the host’s own, up to 120 s'
    return {
      name: 'connection-timeouts',
      present: refusal === null,
      required: false,
      detail: refusal === null ? 'works' : `${without}: the kernel needs NF_CONNTRACK_TIMEOUT (${refusal})`
    }
  }
}

async function probeTimeouts(): Promise<string | null> {
  try {
    await withScratchNetns(netns => runNft(netns, timeoutsAlone(), 'try it in a new namespace'))
    return null
  } catch (err) {
    return asVxmeshError(err).message
  }
}
