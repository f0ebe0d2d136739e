# Sourced by the scripts beside it that run a Java program from Maven Central.

# need_java ends the script unless a JDK and Maven are here.
need_java() { # PROGRAM
	local tool
	for tool in java mvn; do
		command -v "$tool" >/dev/null || {
			echo "${0##*/}: $tool is not installed; $1 needs a JDK (17 or later) and Maven, e.g. apt-get install openjdk-17-jdk-headless maven" >&2
			exit 1
		}
	done
}

# fetch_jars fetches what the pom beside the script depends on, once, into
# ${XDG_CACHE_HOME:-~/.cache}/fleetlog/NAME, and sets `version` and `jars`, its
# directory. The version is the pom's property NAME.version.
fetch_jars() { # NAME PROGRAM
	local pom sum partial
	need_java "$2"
	pom=$(cd "$(dirname "$0")" && pwd)/pom.xml
	# The cache is keyed by the pom, so a changed dependency fetches anew, and
	# renamed into place when whole.
	version=$(sed -n "s:.*<$1.version>\(.*\)</$1.version>.*:\1:p" "$pom")
	sum=$(cksum <"$pom")
	jars=${XDG_CACHE_HOME:-$HOME/.cache}/fleetlog/$1/$version-${sum%% *}
	[[ ! -d $jars ]] || return 0
	echo "${0##*/}: fetching $2 $version from Maven Central" >&2
	mkdir -p "$(dirname "$jars")"
	partial=$(mktemp -d "$jars.XXXXXX")
	# shellcheck disable=SC2064 # the name as it is now
	trap "rm -rf '$partial'" EXIT
	mvn -q -B -Dstyle.color=never -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$partial" >&2
	[[ -d $jars ]] || mv "$partial" "$jars" # unless another one was faster
	trap - EXIT
	rm -rf "$partial"
}
