// npx tokenward doctor https://app.example.com: looks at a deployment from outside, and explains.

import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { DEFAULT_AUTH_PATH, normalAuthPath, UsageError } from './auth-pages.mjs'
import { checkApis, checkCoverage } from './doctor/apis.mjs'
import { checkAuthPages } from './doctor/auth-pages.mjs'
import { checkClient } from './doctor/client.mjs'
import { isLoopback } from './doctor/cross-origin.mjs'
import { openHome } from './doctor/home.mjs'
import { checkPage } from './doctor/page.mjs'
import { foldProduction, problemsOf } from './doctor/ranking.mjs'
import { createReport, printReport } from './doctor/report.mjs'
import { checkEndpoints, checkSameSite, readMetadata } from './doctor/server.mjs'
import { createWeb } from './doctor/web.mjs'
import { checkWorker, findWorker } from './doctor/worker.mjs'
import { readOptions } from './doctor/worker-script.mjs'

/**
 * @typedef {import('./doctor/report.mjs').Finding} Finding
 *
 * @typedef {object} DoctorOptions
 * @property {string} url Where the app starts; the scope of its worker
 * @property {string} [issuer]
 * @property {string} [clientId]
 * @property {string} [worker] Path or URL of the worker's script
 * @property {string} [authPath]
 * @property {string} [redirectUri]
 * @property {string[]} [apis] URLs or paths that the app requests; instead of what the worker's
 *   script names, which has to cover them
 * @property {Record<string, string>} [headers] Sent to the app's site only
 * @property {string[]} [accepted] Ids of failures that count as warnings
 * @property {boolean} [all] On this machine too: what only matters once the site is online
 */

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))

const HELP = `Usage
  npx tokenward doctor <url> [options]

Looks at a site that is online as a browser without a session would, and explains what it finds.
<url> is where the app starts, with its folder: https://app.example.com/ or https://example.com/app/

Options
  --worker <path>          script of the worker; default sw.js or service-worker.js at <url>
  --issuer <url>           the authorization server
  --client-id <id>         these two are read in the worker's script if they stand there as text
  --api <url>              what the app requests with the token: is it covered by the option apis,
                           does it answer? again for another; default: what apis has
  --auth-path <path>       folder of the auth pages (default: as in the script, or ${DEFAULT_AUTH_PATH})
  --redirect-uri <url>     if it is not callback.html in that folder
  --header 'Name: value'   for a protected site; sent to the app's origin only; may be repeated
  --accept <id>            a failure that you know of is a warning; may be repeated
  --all                    for a site on this machine: also what only matters once it is online
  --json                   findings as an array of { id, level, found, why, fix }
  --help

Exit code: 1 if there is a failure, 2 if the command is wrong, otherwise 0; warnings do not count.

What it sends: GET requests to the site; to the authorization server some authorization requests
with prompt=none, one token request and one revocation with values that are invalid; to each API
two preflights and one GET. It signs nobody in and changes nothing, but is seen in the logs.`

/**
 * @param {DoctorOptions} options
 * @param {import('./doctor/web.mjs').Fetch} [fetch]
 * @returns {Promise<Finding[]>}
 */
export const diagnose = async (options, fetch = globalThis.fetch) => {
  const scope = scopeOf(options.url)
  const report = createReport(options.accepted ?? [])
  await examine(report, options, scope, fetch)
  const isHere = isLoopback(new URL(scope).hostname)
  const findings = isHere && !options.all ? foldProduction(report.findings) : report.findings
  const problems = problemsOf(findings)
  return [...problems, ...findings.filter((finding) => !problems.includes(finding))]
}

/**
 * @param {import('./doctor/report.mjs').Report} report @param {DoctorOptions} options
 * @param {string} scope @param {import('./doctor/web.mjs').Fetch} fetch
 */
const examine = async (report, options, scope, fetch) => {
  const { origin } = new URL(scope)
  const web = createWeb(
    fetch,
    { origin, headers: options.headers ?? {} },
    `tokenward-doctor/${version}`,
  )

  const home = await openHome(web, report, scope)
  if (!home) return

  const worker = await findWorker(web, report, scope, options.worker)
  const { issuer, clientId, apis, authPath, redirectUri } = settle(report, options, scope, worker)
  await checkAuthPages(web, report, { scope, authPath, redirectUri, homeText: home.text })

  const metadata = issuer ? await readMetadata(web, report, issuer, origin) : undefined
  const urls = [metadata?.authorization_endpoint, metadata?.token_endpoint]
  const [authorization, token] = urls.map((url) => (URL.canParse(url) ? String(url) : undefined))
  if (worker) {
    const targets = [issuer, token, ...apis].filter((url) => url !== undefined)
    await checkWorker(web, report, worker, { scope, version, targets })
  }
  const silent = new URL(`${authPath}silent.html`, scope).href
  checkPage(report, home, { worker: worker?.worker.url, silent, authorization, token, apis })

  if (metadata) checkSameSite(report, scope, metadata)
  if (metadata && issuer && clientId) {
    await checkEndpoints(web, report, metadata, { origin, clientId, redirectUri })
    const isolated = /^(?:require-corp|credentialless)\b/.test(
      home.headers.get('cross-origin-embedder-policy') ?? '',
    )
    const client = { issuer, clientId, redirectUri, scope, isolated }
    await checkClient(web, report, metadata, client)
  }
  if (options.apis && worker) checkCoverage(report, apis, readOptions(worker.scripts).apis, scope)
  await checkApis(web, report, apis, origin)
}

/** The folder that the worker has to cover. @param {string} url */
const scopeOf = (url) => {
  const scope = new URL(url)
  scope.search = ''
  scope.hash = ''
  scope.pathname = scope.pathname.replace(/\/[^/]*\.html?$/, '/').replace(/[^/]$/, '$&/')
  return scope.href
}

/**
 * What was given, else what the worker's script says, else the default.
 *
 * @param {import('./doctor/report.mjs').Report} report @param {DoctorOptions} options
 * @param {string} scope @param {Awaited<ReturnType<typeof findWorker>>} worker
 */
const settle = (report, options, scope, worker) => {
  const read = worker && readOptions(worker.scripts)
  for (const name of /** @type {const} */ (['issuer', 'clientId'])) {
    const id = name === 'issuer' ? 'server.given' : 'client.given'
    const option = name === 'issuer' ? '--issuer' : '--client-id'
    const found = read?.[name]
    if (options[name] !== undefined) report.note(id, `${name} ${options[name]} (given)`)
    else if (found) report.note(id, `${name} ${found.value} (read in ${found.from})`)
    else {
      report.add(
        // Without a worker, that is what is wrong.
        worker ? 'failure' : 'warning',
        id,
        `The ${name} does not stand in the worker's script as plain text.`,
        'What hangs on it is not checked.',
        `Give it: ${option} …`,
      )
    }
  }

  const apis = (options.apis ?? read?.apis?.urls ?? [])
    .filter((url) => URL.canParse(url, scope))
    .map((url) => new URL(url, scope).href)
  if (!options.apis && !read?.apis?.isWhole) {
    report.note(
      'api.given',
      apis.length > 0
        ? `Only ${apis.join(', ')} can be read in the worker's script.`
        : "No APIs can be read in the worker's script.",
      'What cannot be read is not checked.',
      'Name them all: --api https://api.example.com/ --api /api/',
    )
  }
  const authPath = options.authPath ?? read?.authPath?.value ?? DEFAULT_AUTH_PATH
  return {
    issuer: options.issuer ?? read?.issuer?.value,
    clientId: options.clientId ?? read?.clientId?.value,
    apis,
    authPath,
    redirectUri:
      options.redirectUri ??
      read?.redirectUri?.value ??
      new URL(`${authPath}callback.html`, scope).href,
  }
}

/** @param {string} option @param {string | undefined} value */
const checkUrl = (option, value) => {
  if (value === undefined || (URL.canParse(value) && /^https?:/.test(new URL(value).protocol)))
    return
  throw new UsageError(`${option} ${value}: needs a URL that starts with https://`)
}

/** @param {string} line */
const parseHeader = (line) => {
  const [, name = '', value = ''] = /^([\w-]+):\s*([\x20-\x7e]*)$/.exec(line) ?? []
  if (!name) throw new UsageError(`--header ${line}: needs the form 'Name: value'`)
  return [name.toLowerCase(), value]
}

/** @param {string[]} args @returns {Promise<number>} The exit code */
export const doctor = async (args) => {
  const { values, positionals } = parse(args)
  if (values.help) {
    console.log(HELP)
    return 0
  }
  const [url, ...rest] = positionals
  if (url === undefined || rest.length > 0) {
    throw new UsageError('One site at a time: npx tokenward doctor https://app.example.com/')
  }
  checkUrl('doctor', url)
  checkUrl('--issuer', values.issuer)
  checkUrl('--redirect-uri', values['redirect-uri'])
  for (const api of values.api ?? []) {
    if (!api.startsWith('/')) checkUrl('--api', api)
  }
  const authPath = values['auth-path']
  const findings = await diagnose({
    url,
    ...(values.issuer && { issuer: values.issuer }),
    ...(values['client-id'] && { clientId: values['client-id'] }),
    ...(values.worker && { worker: values.worker }),
    ...(values['redirect-uri'] && { redirectUri: values['redirect-uri'] }),
    ...(values.api && { apis: values.api }),
    ...(authPath !== undefined && { authPath: normalAuthPath(authPath) }),
    headers: Object.fromEntries((values.header ?? []).map(parseHeader)),
    accepted: values.accept ?? [],
    all: values.all,
  })
  if (values.json) console.log(JSON.stringify(findings, null, 2))
  else console.log(`tokenward ${version} doctor: ${scopeOf(url)}\n\n${printReport(findings)}`)
  return findings.some(({ level }) => level === 'failure') ? 1 : 0
}

/** @param {string[]} args */
const parse = (args) => {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        issuer: { type: 'string' },
        'client-id': { type: 'string' },
        worker: { type: 'string' },
        'auth-path': { type: 'string' },
        'redirect-uri': { type: 'string' },
        api: { type: 'string', multiple: true },
        header: { type: 'string', multiple: true },
        accept: { type: 'string', multiple: true },
        all: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message)
  }
}
