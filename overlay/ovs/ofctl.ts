// Runs ovs-ofctl(8) against the switch's own socket: all flows as text, all changes as one bundle (docs/adr/0023).

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { run } from '#platform/process.ts'
import type { FlowChange, FlowOwner, Flows } from '../plan/network/switch.ts'
import { afterChanges, bundleOf, parseFlows } from '../plan/switch/flow.ts'

/** Bundles are of OpenFlow 1.4. */
const VERSION = ['-O', 'OpenFlow14'] as const
/** 100,000 endpoints' flows are some 50 MB. */
const DUMP_BYTES = 256 * 1024 * 1024
const TIMEOUT_MS = 20_000
/** ovs-ofctl(8), set-frags: the fields of a fragment are as they are in it. */
const FRAGMENTS = 'nx-match'

export class Ofctl {
  readonly #target: string
  /** What was last read, and changed by us since; null when that may not be so any more. */
  #known: ReadonlyMap<FlowOwner, Flows> | null = null

  /** @param socket path of the switch's management socket */
  constructor(socket: string) {
    this.#target = `unix:${socket}`
  }

  /** The flows of ours as they are. @throws ERR_KERNEL */
  async flows(): Promise<ReadonlyMap<FlowOwner, Flows>> {
    this.#known = null
    const dump = await this.#run(['--no-stats', '--no-names', 'dump-flows', this.#target], '', 'read flows')
    this.#known = parseFlows(dump)
    return this.#known
  }

  /** As they were last read, and changed by us since: a container must not wait for 100,000 flows. @throws ERR_KERNEL */
  async flowsOf(owner: FlowOwner): Promise<ReadonlyMap<FlowOwner, Flows>> {
    const flows = (this.#known ?? (await this.flows())).get(owner)
    return flows === undefined ? new Map() : new Map([[owner, flows]])
  }

  /** The switch may have begun anew. */
  forget(): void {
    this.#known = null
  }

  /** Do flows see the ports that a first fragment has? By default they see none, and could not drop by them. @throws ERR_KERNEL */
  async seesFragments(): Promise<boolean> {
    return (await this.#run(['get-frags', this.#target], '', 'read how fragments are seen')).trim() === FRAGMENTS
  }

  /** A switch that begins anew has forgotten it. @throws ERR_KERNEL */
  async seeFragments(): Promise<void> {
    await this.#run(['set-frags', this.#target, FRAGMENTS], '', 'set how fragments are seen')
  }

  /** All of it or nothing. @throws ERR_KERNEL */
  async change(changes: readonly FlowChange[]): Promise<void> {
    const bundle = bundleOf(changes)
    if (bundle === '') return
    const known = this.#known
    this.#known = null
    await this.#run(['--bundle', 'add-flows', this.#target, '-'], bundle, 'change flows')
    if (known !== null) this.#known = afterChanges(known, changes)
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
    const words = stderr.replaceAll('\n', ' ').slice(0, 300)
    throw new VxmeshError('ERR_KERNEL', `${doing}: ${words}`, { context: { exitCode } })
  }
}
