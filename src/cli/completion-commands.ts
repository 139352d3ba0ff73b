// `vxmesh completion ...`: prints a script for a shell. On each completion the script runs `vxmesh complete`, so that it
// always matches the installed program. Names come from the agent, and are omitted when it is slow or not running.

import { Argument, type Command } from 'commander'
import type { EndpointView } from '#model/views.ts'
import { ApiClient } from './client.ts'
import { beginning, complete, socketIn, type Completion, type NameKind } from './complete.ts'
import { printable } from './output.ts'
import type { CommandContext } from './context.ts'

/** How long a completion waits for the agent. */
const AGENT_TIMEOUT_MS = 500
/** More than a user looks through. */
const MAX_WORDS = 1_000
/** Rows that are read for them. */
const MAX_ROWS = 10_000
/** Output that tells the shell to complete file names. */
const FILES = ':files'

export function completionCommands(program: Command, { io, socketOf }: CommandContext): void {
  program
    .command('completion')
    .description('Print the completion script of a shell.')
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(SCRIPTS)))
    .addHelpText(
      'after',
      '\nbash: source <(vxmesh completion bash), in ~/.bashrc' +
        '\nzsh:  source <(vxmesh completion zsh), in ~/.zshrc after compinit' +
        '\nfish: vxmesh completion fish > ~/.config/fish/completions/vxmesh.fish' +
        '\nExample: vxmesh completion bash > /etc/bash_completion.d/vxmesh'
    )
    .action((shell: keyof typeof SCRIPTS) => io.out(SCRIPTS[shell]))

  program
    .command('complete', { hidden: true })
    .description('Complete a command line; called by the completion script of a shell.')
    .argument('[words...]', 'after --: the words so far, the last one being typed')
    .action(async (words: string[], _: unknown, command: Command) => {
      const found = complete(program, words)
      if (found.kind === 'files') {
        io.out(`${FILES}\n`)
        return
      }
      const socket = socketIn(words) ?? socketOf(command)
      const list = found.kind === 'words' ? found : await namesFrom(new ApiClient(socket, AGENT_TIMEOUT_MS), found)
      for (const [word, description] of list.words.slice(0, MAX_WORDS)) {
        io.out(description === '' ? `${printable(word)}\n` : `${printable(word)}\t${printable(description)}\n`)
      }
    })
}

const ROUTES = {
  network: ['/v1/networks', 'name'],
  host: ['/v1/hosts', 'name'],
  container: ['/v1/endpoints', 'containerId'],
  namespace: ['/v1/namespaces', 'namespace'],
  service: ['/v1/services', 'name']
} as const satisfies Record<NameKind, readonly [path: string, field: string]>

async function namesFrom(
  client: ApiClient,
  { of, prefix }: Extract<Completion, { readonly kind: 'names' }>
): Promise<Completion & { readonly kind: 'words' }> {
  const [path, field] = ROUTES[of]
  try {
    const rows = await client.list<Partial<Record<keyof EndpointView | 'namespace', unknown>>>(path, MAX_ROWS)
    const names = new Set(rows.map(row => row[field]).filter(name => typeof name === 'string'))
    return beginning(
      prefix,
      [...names].sort().map(name => [name, ''] as const)
    )
  } catch {
    // An error message would only disturb the command line.
    return { kind: 'words', words: [] }
  }
}

const SCRIPTS = {
  bash: `# Completion of vxmesh for bash.
_vxmesh() {
  local IFS=$'\\n' lines
  COMPREPLY=()
  mapfile -t lines < <("\${COMP_WORDS[0]}" complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [[ \${lines[0]-} == ${FILES} ]]; then
    compopt -o default 2>/dev/null
    return
  fi
  COMPREPLY=("\${lines[@]%%$'\\t'*}")
  # Bash replaces only what comes after the last = of a word.
  if [[ \${COMP_WORDS[COMP_CWORD]} != *=* ]]; then COMPREPLY=("\${COMPREPLY[@]#--*=}"); fi
}
complete -F _vxmesh vxmesh
`,
  zsh: `#compdef vxmesh
# Completion of vxmesh for zsh.
_vxmesh() {
  local line
  local -a lines described
  lines=("\${(@f)$("\${words[1]}" complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ \${lines[1]} == ${FILES} ]]; then
    _files
    return
  fi
  for line in "\${lines[@]}"; do
    [[ -n $line ]] && described+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done
  _describe vxmesh described
}
compdef _vxmesh vxmesh
`,
  fish: `# Completion of vxmesh for fish.
function __vxmesh_complete
  set -l before (commandline -opc)
  set -l current (commandline -ct)
  set -l lines ($before[1] complete -- $before[2..-1] "$current" 2>/dev/null)
  if test "$lines[1]" = ${FILES}
    __fish_complete_path "$current"
  else
    printf '%s\\n' $lines
  end
end
complete -c vxmesh -f -a '(__vxmesh_complete)'
`
} as const
