// The worker's script: is it one, does it stay up to date, does its own policy let it work?

import { allows, directiveFor, parsePolicies } from './content-security-policy.mjs'
import { isLoopback } from './cross-origin.mjs'
import { describe, isHtml } from './web.mjs'
import {
  collectScripts,
  findInScripts,
  isDevelopment,
  isModule,
  libraryVersion,
  mentionsLibrary,
} from './worker-script.mjs'

/**
 * @typedef {import('./web.mjs').Web} Web
 * @typedef {import('./web.mjs').Answer} Answer
 * @typedef {import('./web.mjs').NoAnswer} NoAnswer
 * @typedef {import('./report.mjs').Report} Report
 * @typedef {import('./worker-script.mjs').Script} Script
 */

const AS_BROWSERS_DO = { 'service-worker': 'script', 'sec-fetch-dest': 'serviceworker' }
const JAVASCRIPT = /^(?:text|application)\/(?:x-)?(?:java|ecma)script\b/i
const DAY = 24 * 3600
const WITH_A_BYTE =
  'and change a byte of the script: browsers compare bytes only, and an unchanged script keeps the ' +
  'headers it was installed with.'

/**
 * Finds the worker's script.
 *
 * @param {Web} web @param {Report} report @param {string} scope @param {string} [given]
 * @returns {Promise<{ worker: Answer, scripts: Script[] } | undefined>}
 */
export const findWorker = async (web, report, scope, given) => {
  const candidates = given ? [given] : ['sw.js', 'service-worker.js', '/sw.js']
  const urls = [...new Set(candidates.map((path) => new URL(path, scope).href))]
  let answer = /** @type {Answer | NoAnswer | undefined} */ (undefined)
  for (const url of urls) {
    const next = await web.ask(url, { headers: AS_BROWSERS_DO })
    answer ??= next
    if (next.problem === undefined && isScript(next)) {
      report.pass('worker.found', `${next.url} is JavaScript.`)
      return { worker: next, scripts: await collectScripts(web, next) }
    }
  }
  if (!answer) return undefined
  const isPage = answer.problem === undefined && answer.status === 200 && isHtml(answer)
  const what =
    answer.problem === undefined && answer.status === 200
      ? `is ${answer.headers.get('content-type') ?? 'of no type'}${isPage ? ', a page' : ''}`
      : describe(answer)
  report.fail(
    'worker.found',
    `${answer.url} ${what}.`,
    'Browsers register a worker only from an answer 200 with a JavaScript type, without redirects.',
    given
      ? 'Serve the script there with Content-Type: text/javascript.'
      : `Say where it is: --worker /path/of/worker.js. Tried: ${urls.join(', ')}`,
  )
  return undefined
}

/** @param {Answer | NoAnswer} answer */
const isScript = (answer) =>
  answer.problem === undefined &&
  answer.status === 200 &&
  JAVASCRIPT.test(answer.headers.get('content-type') ?? '')

/**
 * @param {Web} web @param {Report} report
 * @param {{ worker: Answer, scripts: Script[] }} found
 * @param {{ scope: string, version: string, targets: string[] }} app `targets`: what the worker
 *   has to reach
 */
export const checkWorker = async (
  web,
  report,
  { worker, scripts },
  { scope, version, targets },
) => {
  checkLibrary(report, scripts, version)
  for (const { url, answer } of scripts.slice(1)) {
    if (isScript(answer)) continue
    report.fail(
      'worker.imports',
      `It imports ${url}, which ${
        answer.problem === undefined && answer.status === 200
          ? `is ${answer.headers.get('content-type')}`
          : describe(answer)
      }.`,
      'A worker whose import fails does not install, or does not start again after a new release.',
      'Serve that file as JavaScript.',
    )
  }
  checkScope(report, worker, scope)
  checkCaching(report, scripts)
  checkPolicy(report, worker, scripts, targets)
  if (worker.headers.get('x-content-type-options')?.toLowerCase() !== 'nosniff') {
    report.warn(
      'worker.nosniff',
      'No X-Content-Type-Options: nosniff.',
      'With it, only what is served as JavaScript can become a worker or be imported by it.',
      'Send it with every file of the site.',
    )
  } else report.pass('worker.nosniff', 'X-Content-Type-Options: nosniff')
  checkPreload(report, scripts)
  checkInstall(report, scripts)
  await checkOtherScripts(web, report, scripts)
}

/** @param {Report} report @param {Script[]} scripts @param {string} version */
const checkLibrary = (report, scripts, version) => {
  const texts = scripts.flatMap(({ answer }) => (answer.problem === undefined ? answer.text : []))
  if (!texts.some(mentionsLibrary)) {
    return report.fail(
      'worker.library',
      'There is no trace of tokenward in the script or in what it imports.',
      'Another worker answers for the app: its requests carry no token.',
      'Call createTokenWorker in the worker that the page registers, or name it with --worker.',
    )
  }
  const there = texts.map(libraryVersion).find((each) => each !== undefined)
  if (there !== undefined && there !== version) {
    report.warn(
      'worker.library',
      `It has tokenward ${there}; this is the doctor of ${version}.`,
      'What is online is not what was installed last, or the doctor is older than the site.',
      `Run npx tokenward init again and deploy; or npx tokenward@${there} doctor.`,
    )
  } else {
    report.pass('worker.library', `It has tokenward ${there ?? '(no version found)'} in it.`)
  }
  checkBuild(report, scripts)
  if (isModule(texts[0] ?? '')) {
    report.note(
      'worker.type',
      'It is a module.',
      'Firefox has module workers since 147.',
      "Register it with createTokenManager(url, { type: 'module' }), or bundle it.",
    )
  }
}

/** @param {Report} report @param {Script[]} scripts */
const checkBuild = (report, scripts) => {
  const found = scripts.find(
    ({ answer }) => answer.problem === undefined && isDevelopment(answer.text),
  )
  if (!found) return
  const { hostname, pathname } = new URL(found.url)
  if (isLoopback(hostname)) {
    return report.pass('worker.development', `${pathname} is the development build.`)
  }
  report.warn(
    'worker.development',
    `${pathname} has the development build of tokenward.`,
    'Its error messages are made of sentences, which every user downloads.',
    'Import tokenward-worker.js where the site is not on localhost, or bundle the worker without ' +
      'the export condition development.',
  )
}

/** @param {Report} report @param {Answer} worker @param {string} scope */
const checkScope = (report, worker, scope) => {
  const folder = new URL('.', worker.url).pathname
  const wanted = new URL(scope).pathname
  const allowed = worker.headers.get('service-worker-allowed')
  if (allowed === null) {
    if (wanted.startsWith(folder)) return
    return report.fail(
      'worker.scope',
      `A worker in ${folder} cannot have the scope ${wanted}.`,
      "A worker's scope is its own folder at most.",
      `Move the script to ${wanted}, or send Service-Worker-Allowed: ${wanted} with it.`,
    )
  }
  const widest = URL.canParse(allowed, worker.url) ? new URL(allowed, worker.url).pathname : folder
  if (!wanted.startsWith(widest)) {
    report.fail(
      'worker.scope',
      `Service-Worker-Allowed: ${allowed} does not cover the scope ${wanted}.`,
      'The browser refuses to register the worker.',
      `Send Service-Worker-Allowed: ${wanted}.`,
    )
  } else if (folder.startsWith(widest) && folder !== widest && wanted !== widest) {
    report.warn(
      'worker.scope',
      `Service-Worker-Allowed: ${allowed} is wider than the scope ${wanted}.`,
      'It lets the script take over other folders of the site.',
      wanted.startsWith(folder) ? 'Leave the header out.' : `Send ${wanted} instead.`,
    )
  } else if (wanted.startsWith(folder)) {
    report.warn(
      'worker.scope',
      `Service-Worker-Allowed: ${allowed} is not needed.`,
      'The script may have this scope by where it lies.',
      'Leave the header out.',
    )
  } else report.pass('worker.scope', `Service-Worker-Allowed: ${allowed} covers the scope.`)
}

/** @param {Report} report @param {Script[]} scripts */
const checkCaching = (report, scripts) => {
  const long = scripts.filter(({ answer }) => {
    if (answer.problem !== undefined) return false
    const value = answer.headers.get('cache-control')?.toLowerCase() ?? ''
    if (/\bno-(?:store|cache)\b/.test(value)) return false
    const ages = [...value.matchAll(/\b(?:s-maxage|max-age)=(\d+)/g)].map(([, age]) => Number(age))
    return ages.some((age) => age > DAY / 24) || value.includes('immutable')
  })
  // A name with a hash in it changes with the content.
  const bad = long.filter(({ url }) => !/[.-][\da-f]{8,}\.m?js$/i.test(new URL(url).pathname))
  if (bad.length === 0) return report.pass('worker.cache', 'It is not kept in caches for long.')
  const list = bad.map(({ url, answer }) => {
    const header = answer.problem === undefined ? answer.headers.get('cache-control') : ''
    return `${new URL(url).pathname}: ${header}`
  })
  report.warn(
    'worker.cache',
    list.join('; '),
    'Browsers ask past their own cache for the worker, but not past that of a CDN, and take what ' +
      'it imports from their cache: a fix of yours arrives late.',
    'Send Cache-Control: no-cache with the worker and what it imports.',
  )
}

/**
 * @param {Report} report @param {Answer} worker @param {Script[]} scripts @param {string[]} targets
 */
const checkPolicy = (report, worker, scripts, targets) => {
  const policies = parsePolicies(worker.headers.get('content-security-policy'))
  if (policies.length === 0) {
    return report.warn(
      'worker.csp',
      'It has no Content-Security-Policy of its own.',
      "The page's policy does not reach into the worker. With one of its own, the worker can " +
        'evaluate no text, and send tokens nowhere but to the server and the APIs.',
      "Send with the script: default-src 'none'; script-src 'self'; connect-src and what it " +
        `has to reach, ${WITH_A_BYTE}`,
    )
  }
  const unreached = [
    ...new Set(
      targets
        .filter((url) => !allows(policies, 'connect-src', url, worker.url))
        .map((url) => new URL(url).origin),
    ),
  ]
  if (unreached.length > 0) {
    report.fail(
      'worker.csp',
      `The connect-src of its policy lacks ${unreached.join(', ')}.`,
      'The worker sends the requests, so that it is its own policy that has to allow them.',
      `Add it to connect-src in the Content-Security-Policy of ${new URL(worker.url).pathname}, ${WITH_A_BYTE}`,
    )
  }
  const blocked = scripts
    .slice(1)
    .filter(({ url }) => !allows(policies, 'script-src', url, worker.url))
    .map(({ url }) => url)
  if (blocked.length > 0) {
    report.fail(
      'worker.csp',
      `The script-src of its policy lacks ${blocked.join(', ')}.`,
      'The worker imports it, and does not start without.',
      `Add 'self' or its origin to script-src, ${WITH_A_BYTE}`,
    )
  }
  const evaluates = policies.every((policy) => {
    const found = directiveFor(policy, 'script-src')
    return !found || found.values.includes("'unsafe-eval'")
  })
  if (evaluates) {
    report.warn(
      'worker.eval',
      'Its policy lets it evaluate text as code.',
      'That is what most ways to take over a worker end in; tokenward does not need it.',
      `Take out 'unsafe-eval', and have script-src or default-src, ${WITH_A_BYTE}`,
    )
  }
  if (unreached.length > 0 || blocked.length > 0) return
  if (allows(policies, 'connect-src', 'https://tokenward-doctor.invalid/', worker.url)) {
    report.warn(
      'worker.csp',
      'Its own policy lets it send requests anywhere.',
      'Code that gets into the worker could send the tokens to a place of its own.',
      `Name in connect-src what it needs (${[...new Set(targets.map((url) => new URL(url).origin))].join(' ')}), ${WITH_A_BYTE}`,
    )
  } else {
    report.pass(
      'worker.csp',
      'Its own policy lets it reach the server and the APIs, and no others.',
    )
  }
}

/** @param {Report} report @param {Script[]} scripts */
const checkPreload = (report, scripts) => {
  const preload = findInScripts(
    scripts,
    /navigationPreload\??\s{0,20}\.\s{0,20}enable|navigation-preload/,
  )
  const race = findInScripts(scripts, /race-network-and-fetch-handler/)
  if (!preload && !race) {
    return report.pass('worker.preload', 'No sign of navigation preload or of racing routes in it.')
  }
  report.warn(
    'worker.preload',
    preload
      ? `${preload} turns navigation preload on.`
      : `${race} has routes that race the network.`,
    'The browser then sends the callback URL, with the code, to the network as well: it is in ' +
      'your access log.',
    'Turn it off, or at least drop the query string from the log of the auth pages. This is only ' +
      'a look at the source: it may be off in practice.',
  )
}

/** @param {Report} report @param {Script[]} scripts */
const checkInstall = (report, scripts) => {
  const router = findInScripts(scripts, /^(?![\s\S]*install)[\s\S]*\.handle\(/)
  if (!router) return
  report.warn(
    'worker.install',
    `${router} calls handle(), but does not mention the install event.`,
    'While the browser starts the worker, it may send the callback URL, with the code, to the ' +
      'network as well: it is in your access log.',
    "Add self.addEventListener('install', (event) => worker.handle(event)).",
  )
}

/** @param {Web} web @param {Report} report @param {Script[]} scripts */
const checkOtherScripts = async (web, report, scripts) => {
  const { origin } = new URL(scripts[0]?.url ?? '')
  const other = scripts.slice(1).find(({ url }) => new URL(url).origin === origin)?.url
  if (!other) return
  const refused = !isScript(await web.ask(other, { headers: AS_BROWSERS_DO }))
  const path = new URL(other).pathname
  if (refused) report.pass('worker.others', `${path} is refused to who asks for a worker.`)
  else {
    report.note(
      'worker.others',
      `${path} would be served as a worker too.`,
      'A script on the page can register any JavaScript file of the site for a narrower scope.',
      "worker-src in the page's policy stops it; so does a server that answers 403 to the request " +
        'header Service-Worker: script on every path but the worker.',
    )
  }
}
