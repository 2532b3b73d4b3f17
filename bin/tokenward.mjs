#!/usr/bin/env node
// npx tokenward init public/: puts the files that a site serves into its folder, and a worker script
// to start from. `doctor`, which looks at a site that is online, has a file of its own.
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { DEFAULT_AUTH_PATH, liveParts, normalAuthPath, PAGES, UsageError } from './auth-pages.mjs'
import { doctor } from './doctor.mjs'
import { nextSteps } from './init/next-steps.mjs'
import { askServer } from './init/server.mjs'
import { workerScript } from './init/worker-script.mjs'

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
                                 the folder that your site serves (default public/), or bring them
                                 up to date; write a commented sw.js if there is no worker script
  npx tokenward check <folder>   are they there, and of this version? exit code 1 if not
  npx tokenward doctor <url>     checks a site that is online: headers, worker, policy, server;
                                 more in npx tokenward doctor --help

Options
  --issuer <url>       init: read the metadata of this authorization server, and write a sw.js that
                       suits it
  --client-id <id>     init: the client in that sw.js
  --no-worker          init: write no sw.js, for a worker that a bundler makes
  --auth-path <path>   where the inert pages go in it (default ${DEFAULT_AUTH_PATH}); give the same
                       authPath to createTokenWorker
  --force              init: overwrite library and pages that tokenward has not written; a worker
                       script is never overwritten
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
  if (folders.length === 0 && existsSync('public')) return 'public'
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

/** Where apps have the script of their worker: served as it is, or for a bundler. */
const findWorker = (folder) =>
  [folder, 'src', join(folder, 'src')]
    .flatMap((place) => ['sw', 'service-worker'].map((name) => join(place, name)))
    .flatMap((path) => ['.js', '.mjs', '.ts'].map((ending) => path + ending))
    .find((file) => existsSync(file))

const isForBundler = (file, folder) =>
  relative(folder, dirname(file)) !== '' || !file.endsWith('.js')

const init = (folder, { authPath, force, server, clientId, writesWorker }) => {
  const facts = {
    server,
    clientId,
    authPath: authPath === DEFAULT_AUTH_PATH ? undefined : authPath,
  }
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
  const existing = findWorker(folder)
  const written = existing || !writesWorker ? undefined : join(folder, 'sw.js')
  if (existing) console.log(`kept        ${existing} (yours)`)
  if (written) {
    // Fails where a file has come up meanwhile.
    writeFileSync(written, workerScript(facts), { flag: 'wx' })
    console.log('wrote       sw.js')
  }
  const isSetUp = existing && !facts.server && readFileSync(existing, 'utf8').includes('tokenward')
  const isBundled = existing ? isForBundler(existing, folder) : !writesWorker
  if (!isSetUp) console.log(nextSteps(facts, { authPath, existing, written, isBundled }))
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

const main = async (args) => {
  if (args[0] === 'doctor') return doctor(args.slice(1))
  let parsed
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        'auth-path': { type: 'string', default: DEFAULT_AUTH_PATH },
        issuer: { type: 'string' },
        'client-id': { type: 'string' },
        'no-worker': { type: 'boolean', default: false },
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
  if (command === 'check') return check(folder, authPath)
  // Asked first: where it fails, nothing is written.
  const server =
    values.issuer === undefined ? undefined : await askServer(values.issuer, { version })
  return init(folder, {
    authPath,
    server,
    clientId: values['client-id'],
    writesWorker: !values['no-worker'],
    force: values.force,
  })
}

try {
  process.exitCode = (await main(process.argv.slice(2))) ?? 0
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  console.error(`tokenward: ${error.message}\nHelp: npx tokenward --help`)
  process.exitCode = 2
}
