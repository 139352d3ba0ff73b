// A root file system for the containers of real runtimes, which can pull no image here: busybox alone.

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { debianProgram } from '../../bench/drivers/debian.ts'
import { must } from './kernel.ts'

/** Makes it in `dir`, which need not be there. */
export async function makeRootfs(dir: string): Promise<void> {
  const busybox = await debianProgram('busybox-static', 'bin/busybox')
  await mkdir(join(dir, 'bin'), { recursive: true })
  await must('cp', [busybox, join(dir, 'bin/busybox')])
  await must('ln', ['-sf', 'busybox', join(dir, 'bin/ping')])
}
