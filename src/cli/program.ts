// The command line: commander's tree of commands, each a small client of the API. Arguments are validated before
// anything is sent.

import { Command, CommanderError, Option } from 'commander'
import { DEFAULT_SOCKET } from '#config/schema.ts'
import { asVxmeshError, ERROR_CODES, VxmeshError, type ExitCode } from '#model/errors.ts'
import { agentCommand, type RunAgent } from './agent-command.ts'
import { completionCommands } from './completion-commands.ts'
import { configCommands } from './config-commands.ts'
import { clusterCommands } from './cluster-commands.ts'
import { cniCommands } from './cni-commands.ts'
import { doctorCommand } from './doctor-command.ts'
import { endpointCommands } from './endpoint-commands.ts'
import { eventsCommand } from './events-command.ts'
import { hostCommands } from './host-commands.ts'
import { kvCommands } from './kv-commands.ts'
import { namespaceCommands } from './namespace-commands.ts'
import { networkCommands } from './network-commands.ts'
import { highlighted, listWriter, printable, render, type Column, type Format } from './output.ts'
import { raftCommands } from './raft-commands.ts'
import { reportCommand } from './report-command.ts'
import { serviceCommands } from './service-commands.ts'
import { snapshotCommands } from './snapshot-commands.ts'
import { ApiClient } from './client.ts'
import type { BackupTools, CliIo, CommandContext, DoctorTools } from './context.ts'

const DEFAULT_COLUMNS = 80

/** Runs one command line. @returns the exit code of contract 6.3; never rejects */
export async function runCli(
  argv: readonly string[],
  p: {
    readonly io: CliIo
    readonly version: string
    readonly runAgent: RunAgent
    readonly backup: () => Promise<BackupTools>
    readonly doctor: () => Promise<DoctorTools>
  }
): Promise<ExitCode> {
  const { io } = p
  let code: ExitCode = 0
  const client = (command: Command): ApiClient => new ApiClient(socketOf(command, io))
  const context: CommandContext = {
    io,
    client,
    formatOf,
    backup: p.backup,
    doctor: p.doctor,
    socketOf: command => socketOf(command, io),
    show: async (command, ask, human) => {
      const output = formatOf(command)
      const answer = await ask(client(command))
      if (output !== 'table') {
        io.out(render(output, answer))
        return answer as never
      }
      const text = human(answer as never, io.columns)
      io.out(io.color === true ? highlighted(text) : text)
      return answer as never
    },
    showList: async <Row>(command: Command, path: string, columns: readonly Column<Row>[]) => {
      const writer = listWriter(formatOf(command), columns, io.columns)
      for await (const rows of client(command).pages<Row>(path)) io.out(writer.page(rows))
      io.out(writer.end())
    }
  }
  const program = commandTree({
    ...p,
    context,
    exit: status => {
      code = status
    }
  })
  try {
    await program.parseAsync(argv, { from: 'user' })
    return code
  } catch (thrown) {
    return fail(thrown, io, argv)
  }
}

/** All commands; also used to generate their documentation. */
export function commandTree(p: {
  readonly context: CommandContext
  readonly io: CliIo
  readonly version: string
  readonly runAgent: RunAgent
  readonly exit: (code: ExitCode) => void
}): Command {
  const { context, io, version } = p
  const program = new Command('vxmesh')
    .description('A mesh of isolated tenant networks for containers: one agent a host, Serf, Raft and VXLAN.')
    .version(version, '-V, --version', 'print the version')
  agentCommand(program, p)
  program
    .command('version')
    .description('Print the version.')
    .action(function (this: Command) {
      const output = formatOf(this)
      io.out(output === 'table' ? `vxmesh ${version}\n` : render(output, { version }))
    })
  clusterCommands(program, context)
  hostCommands(program, context)
  raftCommands(program, context)
  networkCommands(program, context)
  endpointCommands(program, context)
  serviceCommands(program, context)
  namespaceCommands(program, context)
  kvCommands(program, context)
  snapshotCommands(program, context)
  cniCommands(program, context)
  eventsCommand(program, context)
  configCommands(program, context)
  doctorCommand(program, { ...context, exit: p.exit })
  reportCommand(program, { ...context, version })
  completionCommands(program, context)
  inheritSettings(program, io)
  return program
}

/** Accepts `-o` and `--socket` anywhere on the line, and makes every command use our streams and throw on errors. */
function inheritSettings(command: Command, io: CliIo): void {
  command
    .exitOverride()
    .helpCommand(false)
    .configureOutput({
      writeOut: io.out,
      writeErr: io.err,
      outputError: () => undefined,
      getOutHelpWidth: () => io.columns ?? DEFAULT_COLUMNS,
      getErrHelpWidth: () => io.columns ?? DEFAULT_COLUMNS
    })
    .showHelpAfterError(false)
  command.addOption(new Option('-o, --output <format>', 'how to show the result').choices(['table', 'json', 'yaml']))
  command.addOption(new Option('--socket <path>', 'the agent’s UNIX socket (VXMESH_SOCKET)'))
  for (const inner of command.commands) inheritSettings(inner, io)
}

/** The value of an inherited option; the one nearest to the command takes precedence. */
function setting(command: Command, name: 'output' | 'socket'): string | undefined {
  for (let at: Command | null = command; at !== null; at = at.parent) {
    const value: unknown = at.opts()[name]
    if (typeof value === 'string') return value
  }
  return undefined
}

function socketOf(command: Command, io: CliIo): string {
  const path = setting(command, 'socket') ?? io.env['VXMESH_SOCKET'] ?? DEFAULT_SOCKET
  // With an empty path, Node would connect over TCP.
  if (path === '') throw new VxmeshError('ERR_USAGE', '--socket: must not be empty (nor VXMESH_SOCKET)')
  return path
}

function formatOf(command: Command): Format {
  return (setting(command, 'output') as Format | undefined) ?? 'table'
}

function fail(thrown: unknown, io: CliIo, argv: readonly string[]): ExitCode {
  if (thrown instanceof CommanderError) {
    if (thrown.exitCode === 0) return 0
    const text = thrown.message.replace(/^error: /, '')
    if (thrown.code === 'commander.help') return 2
    return report(new VxmeshError('ERR_USAGE', text), io, argv)
  }
  return report(asVxmeshError(thrown), io, argv)
}

function report(err: VxmeshError, io: CliIo, argv: readonly string[]): ExitCode {
  const json = argv.some(
    (arg, at) =>
      arg === '-ojson' || arg === '--output=json' || (arg === 'json' && /^(-o|--output)$/.test(argv[at - 1] ?? ''))
  )
  io.err(
    json
      ? `${JSON.stringify({ error: err.toBody() })}\n`
      : `vxmesh: ${printable(err.message.replace(/\s+/g, ' ').trim())} [${err.code}]\n`
  )
  return ERROR_CODES[err.code].exit
}
