// A root file system with nothing but busybox, for containers of real runtimes: images cannot be pulled here.

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { debianProgram } from '../../bench/drivers/debian.ts'
import { must } from './kernel.ts'

/** Creates it in `dir`, which need not exist. */
export async function makeRootfs(dir: string): Promise<void> {
  const busybox = await debianProgram('busybox-static', 'bin/busybox')
  await mkdir(join(dir, 'bin'), { recursive: true })
  await must('cp', [busybox, join(dir, 'bin/busybox')])
  await must('ln', ['-sf', 'busybox', join(dir, 'bin/ping')])
}
