// Runs ovs-ofctl(8) against the switch's own socket: all flows as text, all changes as one bundle (docs/adr/0022).

import { asVxmeshError, VxmeshError } from '#model/errors.ts'
import { run } from '#platform/process.ts'
import type { FlowChange, FlowOwner, Flows } from '../plan/switch.ts'
import { bundleOf, cookieOf, parseFlows } from './flow.ts'

/** Bundles are of OpenFlow 1.4. */
const VERSION = ['-O', 'OpenFlow14'] as const
/** 100,000 endpoints' flows are some 50 MB. */
const DUMP_BYTES = 256 * 1024 * 1024
const TIMEOUT_MS = 20_000

export class Ofctl {
  readonly #target: string

  /** @param socket path of the switch's management socket */
  constructor(socket: string) {
    this.#target = `unix:${socket}`
  }

  /** The flows of ours; of one owner alone when given. @throws ERR_KERNEL */
  async flows(owner?: FlowOwner): Promise<ReadonlyMap<FlowOwner, Flows>> {
    const filter = owner === undefined ? [] : [`cookie=${cookieOf(owner)}/-1`]
    const args = ['--no-stats', '--no-names', 'dump-flows', this.#target, ...filter]
    return parseFlows(await this.#run(args, '', 'read flows'))
  }

  /** All of it or nothing. @throws ERR_KERNEL */
  async change(changes: readonly FlowChange[]): Promise<void> {
    const bundle = bundleOf(changes)
    if (bundle !== '') await this.#run(['--bundle', 'add-flows', this.#target, '-'], bundle, 'change flows')
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
