#!/usr/bin/env node
// npx tokenward init public/: puts the files that a site serves into its folder. `doctor`, which
// looks at a site that is online, has a file of its own.
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { DEFAULT_AUTH_PATH, liveParts, normalAuthPath, PAGES, UsageError } from './auth-pages.mjs'
import { doctor } from './doctor.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

const WORKER = 'tokenward-worker.js'
const DEVELOPMENT_WORKER = 'tokenward-worker.development.js'
/** Name in a site, and where the package has it. */
const LIBRARIES = new Map([
  [WORKER, ['dist', 'worker.classic.js']],
  [DEVELOPMENT_WORKER, ['dist', 'development', 'worker.classic.js']],
])

const HELP = `tokenward ${version}

Usage
  npx tokenward init <folder>    copy the worker library, in two builds, and the inert pages into
                                 the folder that your site serves (public/), or bring them up to
                                 date
  npx tokenward check <folder>   are they there, and of this version? exit code 1 if not
  npx tokenward doctor <url>     checks a site that is online: headers, worker, policy, server;
                                 more in npx tokenward doctor --help

Options
  --auth-path <path>   where the inert pages go in it (default ${DEFAULT_AUTH_PATH}); give the same
                       authPath to createTokenWorker
  --force              init: overwrite files that tokenward has not written
  --help, --version`

const read = (file) => (existsSync(file) ? readFileSync(file, 'utf8') : undefined)

const readOwn = (...parts) => {
  const text = read(join(root, ...parts))
  if (text !== undefined) return text
  throw new UsageError(`${join(...parts)} is missing from the package. In a clone: npm run build.`)
}

/** The files of the package as they belong into a site. */
const packageFiles = (authPath) => {
  const home = '../'.repeat(authPath.split('/').length - 1)
  const page = (name) =>
    readOwn('public', 'tokenward', `${name}.html`).replace('href="../"', `href="${home}"`)
  // The source map stays in the package.
  const library = (parts) => readOwn(...parts).replace(/\n\/\/# sourceMappingURL=\S+\s*$/, '\n')
  return [
    ...[...LIBRARIES].map(([path, parts]) => ({ path, text: library(parts) })),
    ...PAGES.map((name) => ({ path: `${authPath}${name}.html`, text: page(name) })),
  ]
}

const isOurs = (path, text) =>
  LIBRARIES.has(path) ? text.startsWith('/*! tokenward ') : /<!--\s*tokenward:/.test(text)

/**
 * @returns {{ path: string, file: string, text: string,
 *   state: 'missing' | 'same' | 'other version' | 'foreign' | 'live', note: string }[]}
 */
const compare = (folder, authPath) =>
  packageFiles(authPath).map(({ path, text }) => {
    const file = join(folder, path)
    const there = read(file)
    const as = (state, note = '') => ({ path, file, text, state, note })
    if (there === undefined) return as('missing')
    if (there === text) return as('same')
    if (isOurs(path, there)) {
      const [, from] = there.match(/^\/\*! tokenward (\S+)/) ?? []
      return as('other version', from && from !== version ? `from tokenward ${from}` : 'differs')
    }
    const live = LIBRARIES.has(path) ? [] : liveParts(there)
    return live.length > 0 ? as('live', live.join(', ')) : as('foreign')
  })

const siteFolder = (command, folders) => {
  if (folders.length === 0) {
    throw new UsageError(`Which folder does your site serve? npx tokenward ${command} public/`)
  }
  if (folders.length > 1)
    throw new UsageError(`One folder at a time, not ${folders.join(' and ')}.`)
  const [folder] = folders
  if (!existsSync(folder)) throw new UsageError(`There is no folder ${folder}.`)
  if (!statSync(folder).isDirectory()) throw new UsageError(`${folder} is not a folder.`)
  return folder
}

const nextSteps = (folder, authPath) => {
  const own = authPath === DEFAULT_AUTH_PATH ? '' : `\n  authPath: '${authPath}',`
  const existing = ['sw.js', 'service-worker.js'].find((name) => existsSync(join(folder, name)))
  const worker = existing ?? 'sw.js'
  const write = existing ? 'is there already; at its top' : 'you write'
  return `
Next, two small files.

${join(folder, worker)} ${write}:

  importScripts(
    /^(localhost|127\\.0\\.0\\.1)$/.test(location.hostname)
      ? '${DEVELOPMENT_WORKER}' // says in words what is wrong
      : '${WORKER}',
  )

  tokenward.createTokenWorker({
    issuer: 'https://login.example.com',
    clientId: 'my-app',
    apis: ['https://api.example.com/'],${own.replace('\n  ', '\n    ')}
  }).listen({ claim: true })

The code of your page:

  import { createTokenManager } from 'tokenward'

  const auth = createTokenManager('/${worker}')
  signInButton.onclick = () => auth.login()
  if (await auth.session()) {
    await auth.ready
    await fetch('https://api.example.com/orders') // carries the access token
  }

Register at the authorization server, for a site at https://app.example.com/:
  redirect URI              https://app.example.com/${authPath}callback.html
  post-logout redirect URI  https://app.example.com/${authPath}logout.html
  web origin (CORS)         https://app.example.com

Once it is online: npx tokenward doctor https://app.example.com/`
}

const init = (folder, authPath, force) => {
  let kept = 0
  for (const { path, file, text, state, note } of compare(folder, authPath)) {
    const foreign = state === 'foreign' || state === 'live'
    if (state === 'same') {
      console.log(`up to date  ${path}`)
    } else if (foreign && !force) {
      kept++
      console.log(`kept        ${path} (not written by tokenward; --force overwrites it)`)
      if (state === 'live') console.log(`            It has to be inert, and has ${note}.`)
    } else {
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, text)
      const verb = state === 'missing' ? 'wrote     ' : 'updated   '
      console.log(`${verb}  ${path}${note && !foreign ? ` (${note})` : ''}`)
    }
  }
  console.log(nextSteps(folder, authPath))
  return kept === 0 ? 0 : 1
}

const check = (folder, authPath) => {
  const option = authPath === DEFAULT_AUTH_PATH ? '' : ` --auth-path ${authPath}`
  const bad = compare(folder, authPath).filter(({ path, state, note }) => {
    const words = {
      missing: 'is missing',
      same: '',
      'other version': `is not the file of tokenward ${version} (${note})`,
      // A page in other words is fine; another file in a library's place is not.
      foreign: LIBRARIES.has(path) ? 'was not written by tokenward' : '',
      live: `has to be inert, and has ${note}`,
    }[state]
    if (words) console.log(`${path} ${words}`)
    return words
  })
  if (bad.length === 0) console.log(`All files are those of tokenward ${version}.`)
  else console.log(`\nTo update: npx tokenward init ${folder}${option}`)
  return bad.length === 0 ? 0 : 1
}

const main = (args) => {
  if (args[0] === 'doctor') return doctor(args.slice(1))
  let parsed
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        'auth-path': { type: 'string', default: DEFAULT_AUTH_PATH },
        force: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        version: { type: 'boolean', short: 'v', default: false },
      },
    })
  } catch (error) {
    throw new UsageError(error.message)
  }
  const { values, positionals } = parsed
  const [command, ...folders] = positionals
  if (values.version) return console.log(version)
  if (values.help || command === undefined || command === 'help') {
    console.log(HELP)
    return command === undefined && !values.help ? 1 : 0
  }
  if (command !== 'init' && command !== 'check') {
    throw new UsageError(`There is no command ${command}: init, check or doctor.`)
  }
  const authPath = normalAuthPath(values['auth-path'])
  const folder = siteFolder(command, folders)
  return command === 'init' ? init(folder, authPath, values.force) : check(folder, authPath)
}

try {
  process.exitCode = (await main(process.argv.slice(2))) ?? 0
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  console.error(`tokenward: ${error.message}\nHelp: npx tokenward --help`)
  process.exitCode = 2
}
