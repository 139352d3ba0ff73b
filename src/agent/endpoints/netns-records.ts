// The network namespace of each local container, as one file per endpoint below dataDir/netns, kept over a restart of the
// agent. Files are not synced: after a power cut the namespaces are gone as well.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { endpointKey, type Endpoint, type EndpointKey } from '#model/endpoint.ts'
import { parseContainerId, parseIfName } from '#model/ids.ts'
import { vethName } from '#overlay/plan/network/names.ts'
import { isTemporary } from '#platform/durable-file.ts'
import { ensureDirectory, removeFile, replaceFile } from '#platform/files.ts'
import type { Logger } from '#platform/log.ts'
import { KeyedSerial } from '#platform/serial.ts'

/** The two parts of an endpoint's key. */
export type EndpointName = Pick<Endpoint, 'containerId' | 'ifname'>

export type NetnsRecord = {
  readonly netns: string
  /** Identifies the namespace (lastingNetnsId): the same path may later lead to another one. */
  readonly netnsId: string
  readonly bootId: string
}

/** `unfinished`: an attach or a detach ended without an answer, and the endpoint may still be allocated. */
export type SavedRecord = NetnsRecord | 'unfinished'

export type NetnsRecords = {
  /** The records of earlier runs. @throws ERR_STORAGE */
  load(): Promise<ReadonlyMap<EndpointKey, SavedRecord>>
  /** Returns at once and does not wait for the disk. */
  save(name: EndpointName, record: SavedRecord): void
  /** As `save`. */
  remove(name: EndpointName): void
}

export class NetnsRecordFiles implements NetnsRecords {
  readonly #directory: string
  readonly #logger: Logger
  /** Writes to one file keep their order. */
  readonly #byFile = new KeyedSerial()

  constructor(options: { readonly dataDir: string; readonly logger: Logger }) {
    this.#directory = join(options.dataDir, 'netns')
    this.#logger = options.logger
  }

  async load(): Promise<ReadonlyMap<EndpointKey, SavedRecord>> {
    await ensureDirectory(this.#directory)
    const records = new Map<EndpointKey, SavedRecord>()
    for (const file of readdirSync(this.#directory)) {
      if (isTemporary(file)) {
        await removeFile(join(this.#directory, file))
        continue
      }
      try {
        const [key, record] = parseRecord(readFileSync(join(this.#directory, file), 'utf8'))
        records.set(key, record)
      } catch (err) {
        this.#logger.warn({ err, file }, "the record of a container's namespace is unreadable")
      }
    }
    return records
  }

  save(name: EndpointName, record: SavedRecord): void {
    const { containerId, ifname } = name
    const facts = record === 'unfinished' ? { unfinished: true } : record
    this.#write(name, file => replaceFile(file, JSON.stringify({ containerId, ifname, ...facts })))
  }

  remove(name: EndpointName): void {
    this.#write(name, file => removeFile(file))
  }

  /** A full disk must not keep a container from its network: without its record only a repair after a restart fails. */
  #write({ containerId, ifname }: EndpointName, change: (file: string) => Promise<void>): void {
    const file = join(this.#directory, vethName(containerId, ifname))
    this.#byFile
      .run(file, () => change(file))
      .catch((err: unknown) =>
        this.#logger.warn({ err, containerId }, "the record of a container's namespace is not kept")
      )
  }
}

/** @throws Error saying what is wrong with the text */
function parseRecord(json: string): readonly [EndpointKey, SavedRecord] {
  const fields = JSON.parse(json) as Record<string, unknown>
  const text = (name: string): string => {
    const value = fields[name]
    if (typeof value !== 'string') throw new Error(`${name} is missing`)
    return value
  }
  const key = endpointKey(parseContainerId(text('containerId')), parseIfName(text('ifname')))
  if (fields['unfinished'] === true) return [key, 'unfinished']
  return [key, { netns: text('netns'), netnsId: text('netnsId'), bootId: text('bootId') }]
}
