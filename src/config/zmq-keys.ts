// The keys of the ZeroMQ sockets. On loopback none are needed if the kernel can match connections to users; on any
// other address, CURVE with a list of allowed clients is mandatory.

import { VxmeshError } from '#model/errors.ts'
import { readSmallFile } from '#platform/small-file.ts'
import type { Config } from './schema.ts'

/** Base85 of ZeroMQ RFC 32: 40 characters are 32 bytes. */
const KEY = /^[0-9a-zA-Z.\-:+=^!/*?&<>()[\]{}@%$#]{40}$/
const MAX_ALLOWED = 1_000
/** Of a key file: as many keys with a comment each. */
const MAX_FILE_BYTES = 256 * 1024
const LOOPBACK = 'tcp://127.'
/** The mode of the socket says who may connect: its owner alone. */
const UNIX = 'ipc://'

/** Ports of the sockets that ask for no key: on loopback, without CURVE. */
export function keylessPorts(zmq: Config['zmq']): readonly number[] {
  if (zmq.secretKeyFile !== undefined) return []
  const urls = [zmq.requests, zmq.events, zmq.rpc].filter(url => url.startsWith(LOOPBACK))
  return urls.map(url => Number(url.slice(url.lastIndexOf(':') + 1)))
}

/**
 * @param noOwners why the kernel cannot match connections on loopback to users; null if it can
 * @throws ERR_CONFIG naming the key of the configuration that is missing, malformed or readable by others
 */
export async function readZmqKeys(
  zmq: Config['zmq'],
  noOwners: string | null = null
): Promise<{ readonly secretKey: string; readonly allowedKeys: readonly string[] } | null> {
  const { secretKeyFile, allowedKeysFile } = zmq
  if (secretKeyFile === undefined && allowedKeysFile === undefined) {
    for (const key of ['requests', 'events', 'rpc'] as const) {
      if (zmq[key].startsWith(UNIX)) continue
      const isLoopback = zmq[key].startsWith(LOOPBACK)
      if (isLoopback && noOwners === null) continue
      const open = isLoopback ? `is open to every user (${noOwners ?? ''})` : 'is not loopback (127.0.0.0/8)'
      throw configError(`zmq.${key}`, `${zmq[key]} ${open}: set zmq.secretKeyFile and zmq.allowedKeysFile`)
    }
    return null
  }
  if (secretKeyFile === undefined)
    throw configError('zmq.secretKeyFile', 'is required together with zmq.allowedKeysFile')
  if (allowedKeysFile === undefined)
    throw configError('zmq.allowedKeysFile', 'is required together with zmq.secretKeyFile')
  const secret = await readKeys('zmq.secretKeyFile', secretKeyFile)
  const [secretKey, second] = secret.keys
  if ((secret.mode & 0o077) !== 0) throw configError('zmq.secretKeyFile', `${secretKeyFile} is readable by others`)
  if (secretKey === undefined || second !== undefined)
    throw configError('zmq.secretKeyFile', 'must hold exactly one key')
  return { secretKey, allowedKeys: (await readKeys('zmq.allowedKeysFile', allowedKeysFile)).keys }
}

/** One key per line; empty lines and lines that begin with "# " are ignored. */
async function readKeys(
  field: string,
  path: string
): Promise<{ readonly keys: readonly string[]; readonly mode: number }> {
  let text: string
  let mode: number
  try {
    const read = await readSmallFile(path, MAX_FILE_BYTES)
    text = read.text
    mode = read.stats.mode
  } catch (cause) {
    throw configError(field, `cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
  const keys = text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '' && !line.startsWith('# '))
  if (keys.length > MAX_ALLOWED) throw configError(field, `holds more than ${MAX_ALLOWED} keys`)
  if (!keys.every(key => KEY.test(key)))
    throw configError(field, `${path} has a line that is not a key of 40 characters`)
  return { keys, mode }
}

function configError(field: string, why: string): VxmeshError {
  return new VxmeshError('ERR_CONFIG', `${field}: ${why}`, { field })
}
