// A temporary directory whose path is short enough for a socket (107 bytes); removed after the test.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

export function scratch(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'vxmesh-test-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}
