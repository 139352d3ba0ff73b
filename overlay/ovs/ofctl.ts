// Runs ovs-ofctl(8) against the switch's management socket: dumps flows as text, applies changes as one bundle
// (docs/adr/0023).

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { run } from '#platform/process.ts'
import type { FlowChange, FlowOwner, Flows } from '../plan/network/switch.ts'
import { afterChanges, bundleOf, parseFlows } from '../plan/switch/flow.ts'

/** Bundles need OpenFlow 1.4. */
const VERSION = ['-O', 'OpenFlow14'] as const
/** The flows of 100,000 endpoints take about 50 MB. */
const DUMP_BYTES = 256 * 1024 * 1024
const TIMEOUT_MS = 20_000
/** ovs-ofctl(8), set-frags: flows match the L4 fields of a first fragment, and nw_frag tells later ones. */
const FRAGMENT_MODE = 'nx-match'

export class Ofctl {
  readonly #target: string
  /** Our flows as last read, with our own changes since; null when stale. */
  #cached: ReadonlyMap<FlowOwner, Flows> | null = null

  /** @param socket path of the switch's management socket */
  constructor(socket: string) {
    this.#target = `unix:${socket}`
  }

  /** Reads our flows from the switch. @throws ERR_KERNEL */
  async flows(): Promise<ReadonlyMap<FlowOwner, Flows>> {
    this.#cached = null
    const dump = await this.#run(['--no-stats', '--no-names', 'dump-flows', this.#target], '', 'read flows')
    this.#cached = parseFlows(dump)
    return this.#cached
  }

  /** One owner's flows, from the cache if it is valid: an attach must not wait for a dump of 100,000 flows. @throws ERR_KERNEL */
  async flowsOf(owner: FlowOwner): Promise<ReadonlyMap<FlowOwner, Flows>> {
    const flows = (this.#cached ?? (await this.flows())).get(owner)
    return flows === undefined ? new Map() : new Map([[owner, flows]])
  }

  /** Call it when the switch may have restarted or someone else may have changed flows. */
  invalidate(): void {
    this.#cached = null
  }

  /** Can flows match the ports of a first fragment? In the default mode they cannot, and so cannot drop by port. @throws ERR_KERNEL */
  async matchesFragments(): Promise<boolean> {
    return (await this.#run(['get-frags', this.#target], '', 'read the fragment mode')).trim() === FRAGMENT_MODE
  }

  /** The switch loses this setting when it restarts. @throws ERR_KERNEL */
  async enableFragmentMatching(): Promise<void> {
    await this.#run(['set-frags', this.#target, FRAGMENT_MODE], '', 'set the fragment mode')
  }

  /** Atomic. @throws ERR_KERNEL */
  async change(changes: readonly FlowChange[]): Promise<void> {
    const bundle = bundleOf(changes)
    if (bundle === '') return
    const before = this.#cached
    this.#cached = null
    await this.#run(['--bundle', 'add-flows', this.#target, '-'], bundle, 'change flows')
    if (before !== null) this.#cached = afterChanges(before, changes)
  }

  async #run(args: readonly string[], input: string, doing: string): Promise<string> {
    let result: Awaited<ReturnType<typeof run>>
    try {
      const options = { input, timeoutMs: TIMEOUT_MS, maxBytes: DUMP_BYTES }
      result = await run('ovs-ofctl', [...VERSION, ...args], options)
    } catch (err) {
      throw new VxmeshError('ERR_KERNEL', `${doing}: ${asVxmeshError(err).message}`, { cause: err })
    }
    const { exitCode, stdout, stderr } = result
    if (exitCode === 0) return stdout
    const text = stderr.replaceAll('\n', ' ').slice(0, 300)
    throw new VxmeshError('ERR_KERNEL', `${doing}: ${text}`, { context: { exitCode } })
  }
}
