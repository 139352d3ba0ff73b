// What every CLI command receives: the terminal, the agent's client, and tools that are loaded on demand.

import type { Command } from 'commander'
import type { Config } from '#config/schema.ts'
import type { DoctorView, FindingView, SnapshotView } from '#model/views.ts'
import type { ApiClient } from './client.ts'
import type { Column, Format } from './output.ts'

export type CliIo = {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** Width of the terminal; absent when output does not go to one. */
  readonly columns?: number | undefined
  /** Whether text may be coloured: false when output does not go to a terminal or NO_COLOR is set. */
  readonly color?: boolean | undefined
}

/** Works on backup files without an agent. */
export type BackupTools = {
  readonly readBackup: (file: string) => Promise<Buffer>
  readonly inspectBackup: (file: string, bytes: Buffer) => Promise<SnapshotView>
  readonly restoreBackup: (p: { readonly file: string; readonly dataDir: string }) => Promise<SnapshotView>
}

/** Checks the machine without an agent. */
export type DoctorTools = {
  readonly examineMachine: (config: Config, agent: FindingView) => Promise<DoctorView>
}

/** Asks the agent, prints the answer and returns it; `human` renders the answer as a table. */
export type Show = <Answer>(
  command: Command,
  ask: (client: ApiClient) => Promise<unknown>,
  human: (answer: Answer, width?: number) => string
) => Promise<Answer>

/** Prints a list of any length, page by page. */
export type ShowList = <Row>(command: Command, path: string, columns: readonly Column<Row>[]) => Promise<void>

export type CommandContext = {
  readonly show: Show
  readonly showList: ShowList
  readonly io: CliIo
  /** Client of the agent that this command line names. */
  readonly client: (command: Command) => ApiClient
  readonly formatOf: (command: Command) => Format
  /** Path of that agent's socket. */
  readonly socketOf: (command: Command) => string
  /** Loads the backup tools. */
  readonly backup: () => Promise<BackupTools>
  /** Loads the doctor's tools. */
  readonly doctor: () => Promise<DoctorTools>
}
