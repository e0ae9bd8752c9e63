"""The local web page: units, resynthesis and continuation of one recording."""
