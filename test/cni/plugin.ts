// Calls the real plugin as a container runtime does.

import { spawn } from 'node:child_process'
import { statSync } from 'node:fs'
import { resolve } from 'node:path'
import { run } from '#platform/process.ts'

const root = resolve(import.meta.dirname, '../..')

export const PLUGIN = resolve(root, 'dist/vxmesh-cni')

export type PluginRun = {
  readonly exitCode: number | null
  readonly stdout: string
  readonly stderr: string
  /** Standard output as JSON; null if empty. */
  readonly json: Record<string, unknown> | null
}

/** Builds the plugin if its source is newer. */
export async function buildPlugin(): Promise<void> {
  const made = statSync(PLUGIN, { throwIfNoEntry: false })?.mtimeMs ?? 0
  if (made > statSync(resolve(root, 'cni/vxmesh-cni.c')).mtimeMs) return
  const { exitCode, stderr } = await run(resolve(root, 'scripts/build-cni'), [], { timeoutMs: 60_000 })
  if (exitCode !== 0) throw new Error(`the plugin cannot be built: ${stderr}`)
}

/** @param input the configuration as an object, or standard input verbatim */
export function callPlugin(
  command: string,
  p: {
    readonly input: object | string | Uint8Array
    readonly env?: Readonly<Record<string, string | undefined>>
    readonly program?: string
    /** Receives a function that kills the plugin. */
    readonly onSpawn?: (kill: () => void) => void
  }
): Promise<PluginRun> {
  const env: Record<string, string | undefined> = { CNI_COMMAND: command, CNI_PATH: resolve(root, 'dist'), ...p.env }
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined))
  const child = spawn(p.program ?? PLUGIN, [], { env: given, stdio: 'pipe' })
  p.onSpawn?.(() => void child.kill('SIGKILL'))
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  // The plugin may exit without reading all of its input.
  child.stdin.on('error', () => undefined)
  const { input } = p
  child.stdin.end(typeof input === 'string' || input instanceof Uint8Array ? input : JSON.stringify(input))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', exitCode => {
      try {
        const json = stdout === '' ? null : (JSON.parse(stdout) as Record<string, unknown>)
        resolve({ exitCode, stdout, stderr, json })
      } catch {
        reject(new Error(`the plugin printed ${stdout.slice(0, 200)}`))
      }
    })
  })
}
