// Prepares the path of the UNIX socket: the directory is accessible to its owner only, the stale socket of a dead agent
// is removed, and that of a running agent is an error.

import { chmod, mkdir, rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { VxmeshError } from '#model/errors.ts'

/** sockaddr_un holds 108 bytes including the terminating zero. */
const MAX_PATH_BYTES = 107

/** Makes the path ready for listening. @throws ERR_CONFIG naming socket */
export async function prepareSocket(path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) throw socketError(`${path} is longer than ${MAX_PATH_BYTES} bytes`)
  const made = await mkdir(dirname(path), { recursive: true, mode: 0o700 }).catch((err: unknown) => {
    throw socketError(err instanceof Error ? err.message : String(err))
  })
  if (made !== undefined) await chmod(dirname(path), 0o700)
  const found = await stat(path).catch(() => null)
  if (found === null) return
  if (!found.isSocket()) throw socketError(`${path} exists and is no socket`)
  if (await answers(path)) throw socketError(`an agent is listening on ${path} already`)
  await rm(path, { force: true })
}

/** Only a refused connection proves that nobody listens: a busy agent's queue may be full (EAGAIN). */
function answers(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', (err: NodeJS.ErrnoException) => resolve(err.code !== 'ECONNREFUSED' && err.code !== 'ENOENT'))
  })
}

function socketError(message: string): VxmeshError {
  return new VxmeshError('ERR_CONFIG', `socket: ${message}`, { field: 'socket' })
}
